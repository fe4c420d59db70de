// Sends a picture that was chosen, dropped or pasted, and shows what came back.
"use strict";

const byId = (id) => document.getElementById(id);
const model = document.body.dataset.model;
let picture = null; // the Blob that is shown
let shown = { plain: null, why: null }; // addresses of the two views of it
let asked = 0; // answers to an older picture come too late and are dropped

byId("file").addEventListener("change", (event) => classify(event.target.files[0]));

for (const name of ["dragover", "dragenter"]) {
  document.addEventListener(name, (event) => { event.preventDefault(); byId("drop").classList.add("over"); });
}
document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) byId("drop").classList.remove("over"); });
document.addEventListener("drop", (event) => {
  event.preventDefault();
  byId("drop").classList.remove("over");
  classify(event.dataTransfer.files[0]);
});
document.addEventListener("paste", (event) => classify(event.clipboardData.files[0]));
byId("explain").addEventListener("click", toggleWhy);

async function classify(blob) {
  if (!blob) return;
  const mine = ++asked;
  picture = blob;
  for (const address of Object.values(shown)) if (address) URL.revokeObjectURL(address);
  shown = { plain: URL.createObjectURL(blob), why: null };
  say("Looking …");
  const begin = performance.now();
  const response = await send(`/predictions/${model}`, "application/json", mine);
  if (!response) return;
  const answer = await response.json();
  if (mine !== asked) return;
  const milliseconds = performance.now() - begin;
  byId("answer").textContent = answer.predictions[0].class_name;
  byId("bars").replaceChildren(...answer.predictions.map(bar));
  byId("time").textContent = `Answered in ${milliseconds.toFixed(0)} ms, the way there and back included.`;
  byId("caption").textContent = blob.name || "pasted picture";
  byId("preview").alt = `The picture that was sent: ${blob.name || "pasted"}`;
  view("plain");
  byId("result").hidden = false;
  say(`${answer.predictions[0].class_name}, ${percent(answer.predictions[0].probability)}`);
}

async function toggleWhy() {
  if (byId("explain").getAttribute("aria-pressed") === "true") { view("plain"); return; }
  if (!shown.why) {
    const mine = asked;
    byId("explain").disabled = true;
    say("Asking why …");
    const response = await send(`/explanations/${model}`, "image/png", mine);
    byId("explain").disabled = false;
    if (!response) return;
    const overlay = await response.blob();
    if (mine !== asked) return;
    shown.why = URL.createObjectURL(overlay);
    say("The bright parts speak for the first class. Only the middle of the picture is looked at.");
  }
  view("why");
}

async function send(path, accept, mine) {
  try {
    const response = await fetch(path, { method: "POST", body: picture, headers: { Accept: accept, "Content-Type": "application/octet-stream" } });
    if (response.ok || mine !== asked) return mine === asked ? response : null;
    const problem = await response.json();
    fail(`${problem.title}: ${problem.detail}`);
  } catch (error) {
    if (mine === asked) fail("The server does not answer. Is it still running?");
  }
  return null;
}

function view(which) {
  byId("preview").src = shown[which];
  byId("explain").setAttribute("aria-pressed", String(which === "why"));
}

function bar({ class_id, class_name, probability }) {
  const item = document.createElement("li");
  const line = document.createElement("div");
  line.className = "name";
  const name = document.createElement("span");
  name.textContent = class_name;
  const share = document.createElement("span");
  share.className = "percent";
  share.textContent = percent(probability);
  line.append(name, share);
  const meter = document.createElement("meter");
  meter.value = probability;
  meter.setAttribute("aria-label", class_name);
  const id = document.createElement("span");
  id.className = "id";
  id.textContent = class_id;
  item.append(line, meter, id);
  return item;
}

function percent(share) { return `${(100 * share).toFixed(1)} %`; }

function say(text) { byId("status").textContent = text; byId("problem").textContent = ""; }

function fail(text) { byId("status").textContent = ""; byId("problem").textContent = text; byId("result").hidden = true; }
