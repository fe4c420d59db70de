import ClassifierKit
import PhotosUI
import SwiftUI

@MainActor
struct ContentView: View {
    private enum Answer {
        case classes([Prediction], untrained: Bool)
        case failure(String)
    }

    @State private var classifier: Classifier? // loaded at the first picture
    @State private var chosen: PhotosPickerItem?
    @State private var takesPicture = false
    @State private var picture: Data?
    @State private var answer: Answer?

    var body: some View {
        ScrollView {
            VStack(alignment: .leading, spacing: 16) {
                HStack {
                    PhotosPicker("Choose a picture", selection: $chosen, matching: .images)
                    if UIImagePickerController.isSourceTypeAvailable(.camera) {
                        Button("Take one") { takesPicture = true }
                    }
                }
                .buttonStyle(.borderedProminent)
                if let image = picture.flatMap(UIImage.init(data:)) {
                    Image(uiImage: image).resizable().scaledToFit().frame(maxHeight: 320)
                }
                switch answer {
                case nil:
                    if picture != nil { ProgressView() }
                case .failure(let message):
                    Text(message).foregroundStyle(.red)
                case .classes(let likeliest, let untrained):
                    if untrained { Text("The weights are untrained: these answers mean nothing.").foregroundStyle(.red) }
                    ForEach(likeliest, content: bar)
                }
            }
            .padding()
        }
        .fullScreenCover(isPresented: $takesPicture) {
            CameraPicker { picture = $0 }.ignoresSafeArea()
        }
        .task(id: chosen) { await load() }
        .task(id: picture) { await classify() }
    }

    private func bar(_ prediction: Prediction) -> some View {
        ProgressView(value: prediction.probability) {
            Text("\(prediction.label.className), \(prediction.probability, format: .percent.precision(.fractionLength(1)))")
        }
    }

    private func load() async {
        guard let chosen else { return }
        do {
            picture = try await chosen.loadTransferable(type: Data.self) ?? Data() // nothing at all is a picture's trouble
        } catch {
            answer = .failure("The picture cannot be read: \(error.localizedDescription)")
        }
    }

    private func classify() async {
        answer = nil
        guard let picture else { return }
        do {
            let classifier = try await loadedClassifier()
            let likeliest = try await classifier.classify(picture)
            if Task.isCancelled { return } // another picture was chosen meanwhile
            answer = .classes(likeliest, untrained: classifier.bundle.isUntrained)
        } catch let problem as Problem {
            answer = .failure(problem.detail)
        } catch { // no model in the app, or one that does not run: said, not crashed
            answer = .failure("The classifier failed: \(error.localizedDescription)")
        }
    }

    private func loadedClassifier() async throws -> Classifier {
        if let classifier { return classifier }
        let loaded = try await Task.detached { try Classifier() }.value // takes its time: not on the main thread
        classifier = loaded
        return loaded
    }
}
