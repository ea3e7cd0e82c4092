"""The report's JavaScript: the read-out of the charts and the rollout viewer.

All text that comes from a run enters the page through `textContent`, never as HTML.
"""

SCRIPT = r"""
"use strict";
const read = (id) => JSON.parse(document.getElementById(id).textContent);
const tip = document.getElementById("tip");

// An element with attributes and children; strings become text nodes.
function make(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}
const tipRow = (name, value, colour) => make("div", {},
  make("span", {}, colour === undefined ? "" : make("i", {class: `swatch c${colour}`}), name),
  make("b", {}, value));

function showTip(x, y, ...rows) {
  tip.replaceChildren(...rows);
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  // To the right of the pointer, or to its left where the window ends.
  const left = x + 16 + box.width > innerWidth ? x - 16 - box.width : x + 16;
  tip.style.left = Math.max(4, left) + "px";
  tip.style.top = Math.max(4, Math.min(y + 12, innerHeight - box.height - 4)) + "px";
}
const hideTip = () => { tip.hidden = true; };
function short(value) {
  if (value === null || value === undefined) return "\u2013";
  if (typeof value === "string") return value;
  const size = Math.abs(value);
  if (size !== 0 && (size < 0.001 || size >= 1e6)) return value.toExponential(2);
  return String(Number(value.toPrecision(4))).replace("-", "\u2212");
}

// --- Charts: the nearest step under the pointer, or moved by the arrow keys. ---
const [LEFT, RIGHT, TOP, BOTTOM, WIDTH] = BOX;
const charts = read("chart-data");

function nearest(steps, step) {  // index in an ascending list, by halving
  let low = 0, high = steps.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (steps[middle] < step) low = middle; else high = middle;
  }
  return step - steps[low] <= steps[high] - step ? low : high;
}

function readOut(figure, step, x, y) {
  const chart = charts[figure.dataset.chart], svg = figure.querySelector("svg");
  clearMarks(figure);
  const longest = chart.lines.reduce((a, b) => (b.steps.length > a.steps.length ? b : a));
  const at = longest.steps[nearest(longest.steps, step)];
  const toX = (s) => LEFT + (s - chart.first) / (chart.last - chart.first) * (RIGHT - LEFT);
  let marks = `<path class="guide" d="M${toX(at)} ${TOP}V${BOTTOM}"/>`;  // numbers only
  const rows = [make("div", {}, make("span", {}, "step"), make("b", {}, String(at)))];
  for (const line of chart.lines) {
    const i = nearest(line.steps, at);
    // A curve that has no value near this step (a shorter run) says nothing.
    if (Math.abs(line.steps[i] - at) > (chart.last - chart.first) / 20) continue;
    if (line.ys[i] !== null) {
      const place = `cx="${toX(line.steps[i])}" cy="${line.ys[i]}"`;
      marks += `<circle class="marker c${line.colour}" r="4" ${place}/>`;
    }
    rows.push(tipRow(line.name, short(line.values[i]) + chart.unit, line.colour));
  }
  svg.insertAdjacentHTML("beforeend", `<g class="marks">${marks}</g>`);
  figure.dataset.step = at;
  showTip(x, y, ...rows);
}
function clearMarks(figure) { figure.querySelector(".marks")?.remove(); }

for (const figure of document.querySelectorAll("[data-chart]")) {
  const svg = figure.querySelector("svg"), chart = charts[figure.dataset.chart];
  const leave = () => { clearMarks(figure); hideTip(); };
  const move = (event) => {
    const box = svg.getBoundingClientRect();
    const share = ((event.clientX - box.left) / box.width * WIDTH - LEFT) / (RIGHT - LEFT);
    readOut(figure, chart.first + share * (chart.last - chart.first), event.clientX, event.clientY);
  };
  svg.addEventListener("pointermove", move);
  svg.addEventListener("pointerdown", move);
  svg.addEventListener("pointerleave", leave);
  figure.addEventListener("blur", leave);
  figure.addEventListener("keydown", (event) => {
    const by = {ArrowLeft: -1, ArrowRight: 1}[event.key];
    if (!by) return;
    event.preventDefault();
    const longest = chart.lines.reduce((a, b) => (b.steps.length > a.steps.length ? b : a));
    const now = figure.dataset.step ?? chart.last;
    const i = nearest(longest.steps, Number(now)) + by;
    const step = longest.steps[Math.max(0, Math.min(longest.steps.length - 1, i))];
    const box = svg.getBoundingClientRect();
    const share = LEFT + (step - chart.first) / (chart.last - chart.first) * (RIGHT - LEFT);
    readOut(figure, step, box.left + share / WIDTH * box.width, box.top + 20);
  });
}

// --- Rollouts: pick stage, step and prompt; draw the group's samples. ---
const rollouts = read("rollout-data"), viewer = document.getElementById("viewer");
const view = {source: rollouts.length - 1, step: 0, prompt: 0, colour: "logprobs"};

function segments(title, options, chosen, pick) {
  return make("fieldset", {}, make("legend", {}, title), make("div", {class: "segments"},
    ...options.map(([value, label]) => make("button", {
      type: "button", "aria-pressed": String(value === chosen),
      onclick: () => { pick(value); drawViewer(); },
    }, label))));
}
function dropdown(title, options, chosen, pick) {
  const change = (event) => { pick(Number(event.target.value)); drawViewer(); };
  return make("label", {}, title, make("select", {onchange: change}, ...options.map(
    (label, i) => make("option", {value: i, selected: i === chosen ? "" : null}, label))));
}

function drawViewer() {
  const steps = rollouts[view.source].steps;
  view.step = Math.min(view.step, steps.length - 1);
  const rollout = steps[view.step];
  view.prompt = Math.min(view.prompt, rollout.prompts.length - 1);
  const prompt = rollout.prompts[view.prompt];
  const several = new Set(rollouts.map((r) => r.run)).size > 1;
  const places = {2: ["first", "last"], 3: ["first", "middle", "last"]}[steps.length] || [];
  const stepLabel = (s, i) => [i, `${places[i] || ""} ${s.step}`.trim()];
  const promptLabel = (p, i) => `${i + 1}. ${p.prompt.replace(/\s+/g, " ").trim().slice(0, 60)}`;
  const sourceLabel = (r) => (several ? `${r.run} \u00b7 ${r.stage}` : r.stage);
  const count = rollout.prompts.length;
  const turn = (by, sign, name) => make("button", {type: "button", "aria-label": name,
    onclick: () => { view.prompt = (view.prompt + by + count) % count; drawViewer(); }}, sign);
  // The controls are made anew; the one that had the keyboard's focus gets it back.
  const controls = () => [...viewer.querySelectorAll("button, select")];
  const focused = controls().indexOf(document.activeElement);
  viewer.replaceChildren(...[
    make("div", {class: "controls"},
      rollouts.length < 2 ? null : dropdown(several ? "Run and stage" : "Stage",
        rollouts.map(sourceLabel), view.source, (i) => { view.source = i; }),
      segments("Step", steps.map(stepLabel), view.step, (i) => { view.step = i; }),
      dropdown("Prompt", rollout.prompts.map(promptLabel), view.prompt,
        (i) => { view.prompt = i; }),
      make("div", {class: "segments"},
        turn(-1, "\u2039", "previous prompt"), turn(1, "\u203a", "next prompt")),
      !hasRatio(prompt) ? null : segments("Colour by",
        [["logprobs", "log-probability"], ["ratio", "ratio at the update"]], view.colour,
        (colour) => { view.colour = colour; })),
    make("p", {class: "meaning"}, rollout.note),
    hasRatio(prompt) ? make("p", {class: "meaning"}, RATIO) : null,
    make("div", {class: "prompt"},
      make("div", {}, make("h3", {}, `Prompt ${short(prompt.id)}`), make("pre", {}, prompt.prompt)),
      make("div", {}, make("h3", {}, "Reference answer"),
        make("pre", {}, prompt.reference || "\u2013"))),
    groupLine(prompt),
    make("div", {class: "samples"},
      ...prompt.samples.map((sample) => drawSample(sample, colourOf(prompt)))),
  ].filter((part) => part !== null));
  if (focused >= 0) controls()[focused]?.focus();
}

// Methods without an importance ratio write none; then there is nothing to choose or to clip.
const hasRatio = (prompt) => prompt.samples.some((sample) => sample.ratio.length > 0);
const colourOf = (prompt) => (hasRatio(prompt) ? view.colour : "logprobs");

function groupLine(prompt) {
  // Samples that could not be scored have no reward and are no part of the mean.
  const rewards = prompt.rewards.filter((r) => r !== null);
  const unscored = prompt.rewards.length - rewards.length;
  const mean = rewards.reduce((a, b) => a + b, 0) / rewards.length;
  const flat = rewards.length > 1 && Math.max(...rewards) === Math.min(...rewards);
  const hot = "transparent, rgb(var(--heat) / .65)", cold = "rgb(var(--cool) / .65)";
  const scale = colourOf(prompt) === "logprobs"
    ? ["likely", `linear-gradient(90deg, ${hot})`, "surprising"]
    : ["less likely", `linear-gradient(90deg, ${cold}, ${hot})`,
      "more likely at the update"];
  return make("div", {class: "group"},
    make("span", {}, make("b", {}, String(prompt.rewards.length)), " samples, mean reward ",
      make("b", {}, rewards.length ? short(mean) : "\u2013"),
      unscored ? ` of ${rewards.length}; ${unscored} without a reward` : ""),
    flat ? make("span", {}, "all rewards equal: nothing to learn from comparing them") : null,
    make("span", {class: "scale"},
      scale[0], make("i", {style: `background: ${scale[1]}`}), scale[2]),
    hasRatio(prompt) ? make("span", {class: "key-clipped"}, CLIPPED) : null);
}

const RATIO = "Ratio: a token's probability under the policy that its update started from, " +
  "divided by that under the policy before the step. Underlined: the clip dropped the token's " +
  "gradient.";
const CLIPPED = "clip dropped the gradient";
const meanOf = (value) => !Array.isArray(value) ? value
  : value.reduce((sum, entry) => sum + Number(entry), 0) / Math.max(1, value.length);

function drawSample(sample, colour) {
  const advantage = meanOf(sample.advantage);
  const edge = {1: "var(--c2)", "-1": "var(--c1)"}[Math.sign(advantage)] || "var(--rule)";
  const parts = Object.entries(sample.parts).map(([name, value]) => `${name} ${short(value)}`);
  const fact = (name, value) => make("span", {}, name + " ", make("b", {}, value));
  const clipped = new Set(sample.clipped), inserted = new Set(sample.inserted);
  const signed = (value) => (Number(value) > 0 ? "+" : "") + short(value);
  const mark = (sign) => make("span", {class: "mark"}, sign);
  const body = make("pre", {class: "tokens"});
  sample.tokens.forEach((token, i) => {
    const look = inserted.has(i) ? {class: "inserted"}
      : {class: clipped.has(i) ? "clipped" : null, style: shade(sample, colour, i)};
    const span = make("span", {"data-token": i, ...look});
    // Line ends and empty pieces would be invisible, and so would their colour.
    if (token === "") span.append(mark("\u25a1"));
    token.split("\n").forEach((line, j) => span.append(...(j ? [mark("\u21b5"), "\n"] : []), line));
    body.append(span);
  });
  if (!sample.tokens.length) body.append(sample.text);
  const point = (event) => {
    const span = event.target.closest("[data-token]");
    if (span) tokenTip(sample, Number(span.dataset.token), clipped, inserted, event);
    else hideTip();
  };
  body.addEventListener("pointermove", point);
  body.addEventListener("pointerdown", point);
  body.addEventListener("pointerleave", hideTip);
  return make("article", {class: "sample", style: `--edge: ${edge}`},
    make("header", {}, fact("reward", short(sample.reward)),
      fact(Array.isArray(sample.advantage) ? "mean advantage" : "advantage", signed(advantage)),
      fact("tokens", String(sample.tokens.length)),
      sample.turns.length ? fact("turns", sample.turns.map(short).join(" + ")) : null,
      sample.end ? fact("ended", sample.end) : null,
      parts.length ? make("span", {class: "parts"}, parts.join(", ")) : null,
      sample.finished ? null : make("span", {class: "badge"}, "truncated"),
      clipped.size ? make("span", {}, make("b", {}, String(clipped.size)), ` where the ${CLIPPED}`)
        : null),
    body);
}

const tint = (colour, share) => (share < 0.02 ? null
  : `background: rgb(var(--${colour}) / ${(0.65 * Math.min(1, share)).toFixed(2)})`);
function shade(sample, colour, i) {
  const value = Number(sample[colour][i]);
  if (!Number.isFinite(value)) return null;
  if (colour === "logprobs") {  // full colour at exp(-3): a probability of 5 %
    return tint("heat", -value / 3);
  }
  const share = Math.log(value) / Math.log(1.5);  // full colour at 1.5 and at 1 / 1.5
  return tint(share > 0 ? "heat" : "cool", Math.abs(share));
}

function tokenTip(sample, i, clipped, inserted, event) {
  const rows = [tipRow(`token ${i + 1}`, JSON.stringify(sample.tokens[i]).slice(0, 40))];
  if (inserted.has(i)) {
    rows.push(tipRow("written by", "the environment"));
    return showTip(event.clientX, event.clientY, ...rows);
  }
  const add = (name, value) => { if (value !== undefined) rows.push(tipRow(name, short(value))); };
  const logprob = sample.logprobs[i];
  add("log-probability", logprob);
  if (logprob !== undefined) add("probability", Math.exp(Number(logprob)));
  add("ratio at the update", sample.ratio[i]);
  if (Array.isArray(sample.advantage)) add("advantage", sample.advantage[i]);
  if (clipped.has(i)) rows.push(tipRow(CLIPPED, "yes"));
  showTip(event.clientX, event.clientY, ...rows);
}
addEventListener("scroll", hideTip, {passive: true});
if (rollouts.length) { view.step = rollouts[view.source].steps.length - 1; drawViewer(); }
"""
