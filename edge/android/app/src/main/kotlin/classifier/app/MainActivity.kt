package classifier.app

import android.content.ContentValues
import android.content.Context
import android.content.pm.PackageManager
import android.graphics.Bitmap
import android.graphics.ImageDecoder
import android.net.Uri
import android.os.Bundle
import android.provider.MediaStore
import android.util.Size
import androidx.activity.ComponentActivity
import androidx.activity.compose.rememberLauncherForActivityResult
import androidx.activity.compose.setContent
import androidx.activity.result.PickVisualMediaRequest
import androidx.activity.result.contract.ActivityResultContracts.PickVisualMedia
import androidx.activity.result.contract.ActivityResultContracts.TakePicture
import androidx.compose.foundation.Image
import androidx.compose.foundation.layout.Arrangement
import androidx.compose.foundation.layout.Column
import androidx.compose.foundation.layout.Row
import androidx.compose.foundation.layout.fillMaxSize
import androidx.compose.foundation.layout.fillMaxWidth
import androidx.compose.foundation.layout.heightIn
import androidx.compose.foundation.layout.padding
import androidx.compose.foundation.layout.safeDrawingPadding
import androidx.compose.foundation.rememberScrollState
import androidx.compose.foundation.verticalScroll
import androidx.compose.material3.Button
import androidx.compose.material3.CircularProgressIndicator
import androidx.compose.material3.LinearProgressIndicator
import androidx.compose.material3.MaterialTheme
import androidx.compose.material3.Surface
import androidx.compose.material3.Text
import androidx.compose.runtime.Composable
import androidx.compose.runtime.getValue
import androidx.compose.runtime.mutableStateOf
import androidx.compose.runtime.produceState
import androidx.compose.runtime.saveable.rememberSaveable
import androidx.compose.runtime.setValue
import androidx.compose.ui.Modifier
import androidx.compose.ui.graphics.asImageBitmap
import androidx.compose.ui.platform.LocalContext
import androidx.compose.ui.semantics.semantics
import androidx.compose.ui.unit.dp
import classifier.Prediction
import classifier.Problem
import java.io.IOException
import kotlinx.coroutines.CancellationException
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.withContext

class MainActivity : ComponentActivity() {
    override fun onCreate(savedInstanceState: Bundle?) {
        super.onCreate(savedInstanceState)
        setContent {
            MaterialTheme {
                Surface(Modifier.fillMaxSize()) { Screen() }
            }
        }
    }
}

/** What there is to say of a picture. */
private sealed interface Answer {
    class Classes(val likeliest: List<Prediction>, val untrained: Boolean) : Answer
    class Failure(val message: String) : Answer
}

/** Loaded at the first picture, and kept when the screen is turned. */
private object Model {
    private var classifier: Classifier? = null

    @Synchronized
    fun get(context: Context) = classifier ?: Classifier.load(context.applicationContext).also { classifier = it }
}

@Composable
private fun Screen() {
    val context = LocalContext.current
    var picture by rememberSaveable { mutableStateOf<Uri?>(null) }
    var photograph by rememberSaveable { mutableStateOf<Uri?>(null) } // where the camera puts what it takes
    val choose = rememberLauncherForActivityResult(PickVisualMedia()) { chosen -> picture = chosen ?: picture }
    val take = rememberLauncherForActivityResult(TakePicture()) { taken ->
        if (taken) picture = photograph else photograph?.let { context.contentResolver.delete(it, null, null) }
    }
    val thumbnail by produceState<Bitmap?>(null, picture) { value = picture?.let { context.thumbnail(it) } }
    val answer by produceState<Answer?>(null, picture) {
        value = null
        value = picture?.let { context.classify(it) }
    }

    Column(
        Modifier.safeDrawingPadding().verticalScroll(rememberScrollState()).padding(16.dp),
        verticalArrangement = Arrangement.spacedBy(16.dp),
    ) {
        Row(horizontalArrangement = Arrangement.spacedBy(8.dp)) {
            Button({ choose.launch(PickVisualMediaRequest(PickVisualMedia.ImageOnly)) }) { Text("Choose a picture") }
            if (context.packageManager.hasSystemFeature(PackageManager.FEATURE_CAMERA_ANY)) {
                Button({ photograph = context.newPhotograph()?.also { take.launch(it) } }) { Text("Take one") }
            }
        }
        thumbnail?.let { Image(it.asImageBitmap(), "the picture", Modifier.fillMaxWidth().heightIn(max = 320.dp)) }
        when (val known = answer) {
            null -> if (picture != null) CircularProgressIndicator()
            is Answer.Failure -> Text(known.message, color = MaterialTheme.colorScheme.error)
            is Answer.Classes -> {
                if (known.untrained) Text("The weights are untrained: these answers mean nothing.", color = MaterialTheme.colorScheme.error)
                known.likeliest.forEach { Bar(it) }
            }
        }
    }
}

@Composable
private fun Bar(prediction: Prediction) {
    Column(Modifier.fillMaxWidth().semantics(mergeDescendants = true) {}) {
        Text("${prediction.label.name}, ${"%.1f".format(100 * prediction.probability)} %")
        LinearProgressIndicator(progress = { prediction.probability }, modifier = Modifier.fillMaxWidth())
    }
}

private suspend fun Context.classify(picture: Uri): Answer = withContext(Dispatchers.Default) {
    try {
        val classifier = Model.get(this@classify)
        val decoded = classifier.bundle.input.decode(ImageDecoder.createSource(contentResolver, picture))
        Answer.Classes(classifier.classify(decoded), classifier.bundle.isUntrained)
    } catch (error: CancellationException) {
        throw error // another picture was chosen meanwhile
    } catch (problem: Problem) {
        Answer.Failure(problem.message.orEmpty())
    } catch (error: Exception) { // no model in the assets, or one that does not run: said, not crashed
        Answer.Failure("The classifier failed: $error")
    }
}

private suspend fun Context.thumbnail(picture: Uri): Bitmap? = withContext(Dispatchers.IO) {
    try {
        contentResolver.loadThumbnail(picture, Size(1024, 1024), null)
    } catch (_: IOException) {
        null // a broken picture; the answer says so
    }
}

private fun Context.newPhotograph(): Uri? =
    contentResolver.insert(
        MediaStore.Images.Media.EXTERNAL_CONTENT_URI,
        ContentValues().apply { put(MediaStore.Images.Media.MIME_TYPE, "image/jpeg") },
    )
