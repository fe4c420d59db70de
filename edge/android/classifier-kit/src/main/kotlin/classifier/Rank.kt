package classifier

import kotlin.math.exp

private const val TOP = 5

/** One class, and how likely the model thinks it, 0…1. */
data class Prediction(val label: Label, val probability: Float)

/**
 * The likeliest classes of one picture, likeliest first; of equal ones the first.
 *
 * @throws IllegalArgumentException the logits are not of this bundle's model, or not finite.
 */
fun ModelBundle.rank(logits: FloatArray): List<Prediction> {
    require(logits.size == labels.size) { "${logits.size} logits for ${labels.size} labels" }
    require(logits.all(Float::isFinite)) { "the logits are not finite" }
    val most = logits.max()
    val powers = logits.map { exp(it - most) }
    val sum = powers.sum()
    return powers.indices.sortedByDescending(powers::get).take(TOP).map { Prediction(labels[it], powers[it] / sum) }
}
