package classifier

import org.json.JSONArray
import org.json.JSONObject

private const val UNTRAINED = "untrained"

/** A class as the labels name it. */
data class Label(val id: String, val name: String)

/** How a picture becomes what the model looks at. */
class Input(
    val resize: Int, // pixels of the short side
    val crop: Int, // side of the square that is cut out of the middle
    val interpolation: Interpolation,
    val mean: FloatArray, // of red, green, blue, on levels scaled to 0…1
    val std: FloatArray,
    val maxPixels: Long, // more are refused before they are decoded
)

/** All that the program knows of its model, read from `bundle.json`: nothing of it is written down here. */
class ModelBundle(val name: String, val weights: String, val input: Input, val labels: List<Label>) {
    /** The weights are random, and the answers with them. */
    val isUntrained get() = weights == UNTRAINED

    companion object {
        /** @throws org.json.JSONException it is not the text of a `bundle.json`. */
        fun parse(text: String): ModelBundle {
            val root = JSONObject(text)
            val model = root.getJSONObject("model")
            val input = root.getJSONObject("input")
            return ModelBundle(
                name = model.getString("name"),
                weights = model.getString("weights"),
                input = Input(
                    resize = input.getInt("resize"),
                    crop = input.getInt("crop"),
                    interpolation = Interpolation.named(input.getString("interpolation")),
                    mean = input.getJSONArray("mean").floats(),
                    std = input.getJSONArray("std").floats(),
                    maxPixels = input.getLong("max_pixels"),
                ),
                labels = root.getJSONArray("labels").map { array, index ->
                    array.getJSONObject(index).run { Label(getString("class_id"), getString("class_name")) }
                },
            )
        }
    }
}

private fun <T> JSONArray.map(item: (JSONArray, Int) -> T) = List(length()) { item(this, it) }

private fun JSONArray.floats() = map { array, index -> array.getDouble(index).toFloat() }.toFloatArray()
