"use strict";
// Shows what /data/<minutes> says: boards of panels, each with a chart and a table of the latest values.
const EVERY_MS = 5000;
// Okabe and Ito's colours, which people with any colour vision tell apart; darker or lighter by the background.
const COLOURS = {
  light: ["#0072b2", "#b34700", "#00795a", "#9c4f80", "#7a6000", "#2a7ab0", "#444444", "#8a2be2"],
  dark: ["#56b4e9", "#ffa657", "#3fd0a4", "#f0a3cc", "#f0e442", "#9ecbff", "#c9d1d9", "#d2a8ff"],
};
const dark = window.matchMedia("(prefers-color-scheme: dark)");
const charts = new Map();

const FORMATS = {
  "requests/s": (value) => `${short(value)}/s`,
  seconds: (value) => (value < 1 ? `${short(value * 1000)} ms` : `${short(value)} s`),
  share: (value) => `${short(value * 100)} %`,
  bytes: (value) => (value >= 2 ** 30 ? `${short(value / 2 ** 30)} GiB` : `${short(value / 2 ** 20)} MiB`),
  number: (value) => short(value),
  megapixels: (value) => `${short(value)} MP`,
};

function short(value) {
  if (value === 0) return "0";
  const digits = Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 10 ? 1 : Math.abs(value) >= 0.1 ? 2 : 3;
  return value.toLocaleString("en", { maximumFractionDigits: digits });
}

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function colour(index) {
  const palette = COLOURS[dark.matches ? "dark" : "light"];
  return palette[index % palette.length];
}

function style(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function build(boards) {
  const all = document.getElementById("boards");
  all.replaceChildren();
  charts.clear();
  for (const board of boards) {
    const panels = element("div", { className: "panels" });
    const title = element("h2", { id: `board-${board.name}`, textContent: board.title });
    const section = element("section", {}, title, panels);
    section.setAttribute("aria-labelledby", title.id);
    board.panels.forEach((panel, number) => {
      const key = `${board.name}-${number}`;
      const chart = element("div", { className: "chart" });
      chart.setAttribute("aria-hidden", "true"); // the table below says the same
      const rows = element("tbody");
      const caption = element("caption", { className: "hidden", textContent: `${panel.title}: latest values` });
      const table = element("table", {}, caption, rows);
      const words = element("figcaption", {}, element("h3", { textContent: panel.title }), element("p", { textContent: panel.meaning }));
      panels.append(element("figure", {}, words, chart, table));
      charts.set(key, { chart, rows, plot: null, shape: "" });
    });
    all.append(section);
  }
}

function draw(boards) {
  for (const board of boards) {
    board.panels.forEach((panel, number) => update(charts.get(`${board.name}-${number}`), panel));
  }
}

function update(place, panel) {
  const format = FORMATS[panel.unit];
  place.rows.replaceChildren(
    ...panel.lines.map((line, index) => {
      const key = element("span", { className: "key" });
      key.style.background = colour(index);
      const latest = line.values.findLast((value) => value !== null);
      const name = element("th", { scope: "row" }, key, line.label);
      return element("tr", {}, name, element("td", { textContent: latest === undefined ? "–" : format(latest) }));
    }),
  );
  const data = [panel.times, ...panel.lines.map((line) => line.values)];
  const shape = JSON.stringify([panel.lines.map((line) => line.label), dark.matches, place.chart.clientWidth]);
  if (place.plot && place.shape === shape) {
    place.plot.setData(data);
    return;
  }
  place.plot?.destroy();
  place.plot = null;
  place.shape = shape;
  place.chart.replaceChildren();
  place.chart.classList.toggle("empty", panel.lines.length === 0);
  if (panel.lines.length === 0) {
    place.chart.textContent = "nothing in this time";
    return;
  }
  const axis = { stroke: style("--quiet"), grid: { stroke: style("--line"), width: 1 }, ticks: { stroke: style("--line"), width: 1 } };
  const options = {
    width: place.chart.clientWidth,
    height: place.chart.clientHeight,
    legend: { show: false },
    cursor: { sync: { key: "all" } },
    scales: { y: { range: (_plot, _least, most) => [0, most > 0 ? most * 1.1 : 1] } },
    axes: [axis, { ...axis, size: 64, values: (_plot, values) => values.map(format) }],
    series: [{}, ...panel.lines.map((line, index) => ({ label: line.label, stroke: colour(index), width: 2 }))],
  };
  place.plot = new uPlot(options, data, place.chart);
}

function tell(alerts) {
  const list = document.getElementById("alerts");
  if (alerts.length === 0) {
    list.replaceChildren(element("li", { className: "fine", textContent: "✓ none" }));
    return;
  }
  list.replaceChildren(
    ...alerts.map((alert) => element("li", {}, element("span", { className: "firing", textContent: `${alert.name} (${alert.severity}): ` }), alert.summary)),
  );
}

let known = "";
async function refresh() {
  const state = document.getElementById("state");
  try {
    const minutes = document.getElementById("minutes").value;
    const answer = await fetch(`data/${minutes}`);
    const content = await answer.json();
    if (!answer.ok) throw new Error(content.detail);
    const names = JSON.stringify(content.boards.map((board) => [board.name, board.panels.length]));
    if (names !== known) {
      build(content.boards);
      known = names;
    }
    draw(content.boards);
    tell(content.alerts);
    state.className = "";
    state.textContent = `as of ${new Date(content.time * 1000).toLocaleTimeString()}`;
  } catch (error) {
    state.className = "bad";
    state.textContent = `no answer: ${error.message}`;
  }
}

async function follow() {
  await refresh();
  setTimeout(follow, EVERY_MS);
}

document.getElementById("minutes").addEventListener("change", refresh);
document.getElementById("span").addEventListener("submit", (event) => event.preventDefault());
dark.addEventListener("change", refresh);
window.addEventListener("resize", refresh);
follow();
