// Polls status.json and shows it. Keeps the last state when nobody answers.

const kPollMs = 1000;
const kTimeoutMs = 4000;
const kSlowPollMs = 5000;   // When nobody answers, or nobody looks.
const kSilentMs = 3000;     // Until then a missed answer is no news.

const byId = (id) => document.getElementById(id);
const plain = new Intl.NumberFormat("en", {maximumFractionDigits: 0});
const compact = new Intl.NumberFormat(
    "en", {notation: "compact", maximumSignificantDigits: 3});

function number(value, digits = 0) {
  if (value === null || value === undefined) return "–";
  return digits === 0 ? plain.format(value) : value.toFixed(digits);
}

// Four digits or so, of any size.
function short(value) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  if (Number.isInteger(value) && size < 1e6) return plain.format(value);
  if (size >= 1e6 || (size < 1e-3 && size > 0)) return value.toPrecision(3);
  if (size >= 100) return plain.format(value);
  return value.toFixed(size >= 10 ? 1 : size >= 1 ? 2 : 3);
}

function bytes(value) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (value >= 1024 && unit + 1 < units.length) {
    value /= 1024;
    ++unit;
  }
  return `${unit === 0 ? value : value.toFixed(value < 10 ? 2 : 1)} ${
    units[unit]}`;
}

function duration(seconds) {
  if (seconds < 60) {
    return `${seconds.toFixed(seconds < 1 ? 2 : seconds < 10 ? 1 : 0)} s`;
  }
  const s = Math.round(seconds);
  const parts = [Math.floor(s / 3600), Math.floor(s / 60) % 60, s % 60];
  if (parts[0] === 0) return `${parts[1]} min ${parts[2]} s`;
  return `${plain.format(parts[0])} h ${parts[1]} min`;
}

const percent = (share) => `${(100 * share).toFixed(0)} %`;

function element(tag, text, ...names) {
  const node = document.createElement(tag);
  if (text !== undefined) node.textContent = text;
  node.classList.add(...names);
  return node;
}

// rows: [name, value, class]
function pairs(list, rows) {
  list.replaceChildren(...rows.flatMap(([name, value, mark]) => [
    element("dt", name), element("dd", value, ...(mark ? [mark] : []))]));
}

function tile(name, value, unit, note, series) {
  const box = element("div", undefined, "tile");
  const big = element("p", value, "value");
  if (unit) big.append(" ", element("small", unit));
  box.append(element("h3", name), big);
  if (note) box.append(element("p", note, "note"));
  if (series && series.length > 1) box.append(sparkline(series));
  return box;
}

function meter(name, value, most, format) {
  const box = element("div", undefined, "meter");
  const head = element("p");
  head.append(element("span", name),
              element("span", `${format(value)} of ${format(most)}`));
  box.append(head, bar(value, most));
  return box;
}

function bar(value, most) {
  const box = element("div", undefined, "bar");
  const fill = element("i");
  fill.style.width = `${100 * Math.min(1, most > 0 ? value / most : 0)}%`;
  box.append(fill);
  return box;
}

// The metrics of one answer, and their rates since the one before.
class MetricView {
  constructor(status, before) {
    this.list = status.metrics;
    this.time = status.time;
    this.values = new Map();
    for (const family of this.list) {
      for (const sample of family.samples) {
        this.values.set(keyOf(family.name, sample.labels),
                        sample.value ?? sample.count ?? null);
      }
    }
    this.before = before && before.pid === status.pid ? before.view : null;
  }

  get(name, labels) {
    return this.values.get(keyOf(name, labels)) ?? null;
  }
  sum(name) {
    const family = this.list.find((f) => f.name === name);
    return family ? family.samples.reduce((t, s) => t + (s.value ?? 0), 0) : 0;
  }
  has(name) {
    return this.list.some((f) => f.name === name);
  }
  rate(name, labels) {
    const now = this.get(name, labels);
    const then = this.before && this.before.get(name, labels);
    const seconds = this.before ? this.time - this.before.time : 0;
    if (now === null || then === null || then === undefined || seconds <= 0) {
      return null;
    }
    return Math.max(0, now - then) / seconds;
  }
}

function keyOf(name, labels) {
  return name + JSON.stringify(labels ?? {});
}

// ------------------------------------------------------------------- run ---

const chart = new Chart(byId("curve"), (text) => {
  byId("curve-value").textContent = text;
});
let xIsTime = false;
let shown = null;  // The newest answer.

for (const [id, time] of [["by-steps", false], ["by-time", true]]) {
  byId(id).addEventListener("click", () => {
    xIsTime = time;
    byId("by-steps").setAttribute("aria-pressed", !time);
    byId("by-time").setAttribute("aria-pressed", time);
    if (shown) showCurve(shown.run);
  });
}

function showCurve(run) {
  const e = run.evaluations, h = run.history, target = run.config.target_return;
  const x = xIsTime ? "wall_seconds" : "env_steps";
  const count = e.mean_return.length;
  const last = count - 1;
  chart.show({
    x: e[x], y: e.mean_return, low: e.min_return, high: e.max_return,
    other: {x: h[x], y: h.exploring_return},
    target,
    xLabel: xIsTime ? "time of the run" : "environment steps",
    yLabel: "return of an episode",
    xFormat: xIsTime ? duration : (v) => compact.format(v),
    yFormat: short,
    tell: (i) => [
      `mean return ${short(e.mean_return[i])}`,
      `${short(e.min_return[i])} to ${short(e.max_return[i])}`,
      `${number(e.env_steps[i])} env steps`,
      `${number(e.updates[i])} updates`,
      `after ${duration(e.wall_seconds[i])}`],
    summary: count === 0 ? "Return curve: no evaluation yet" :
      `Return curve, ${count} evaluations: the last mean return is ${
        short(e.mean_return[last])} after ${
        number(e.env_steps[last])} environment steps` +
      (target === null ? "" : `, the target is ${short(target)}`),
  });
  const head = element("tr");
  for (const name of ["env steps", "updates", "time", "mean return", "least",
                      "greatest"]) {
    head.append(element("th", name));
  }
  const rows = e.mean_return.map((mean, i) => {
    const row = element("tr");
    for (const text of [number(e.env_steps[i]), number(e.updates[i]),
                        duration(e.wall_seconds[i]), short(mean),
                        short(e.min_return[i]), short(e.max_return[i])]) {
      row.append(element("td", text));
    }
    return row;
  });
  byId("evaluations").replaceChildren(head, ...rows.reverse());
}

function showLegend() {
  const key = (node, text) => {
    const item = element("span");
    item.append(svgNode("svg", {viewBox: "0 0 26 12", class: "chart",
                                "aria-hidden": "true"}, ...node), text);
    return item;
  };
  byId("legend").replaceChildren(
      key([svgNode("rect", {class: "band", width: 26, height: 12}),
           svgNode("line", {class: "mean", x1: 0, x2: 26, y1: 6, y2: 6})],
          "greedy evaluation: mean, least to greatest"),
      key([svgNode("line", {class: "exploring", x1: 0, x2: 26, y1: 6, y2: 6})],
          "the actors' episodes, exploring"));
}

function showTiles(run) {
  const {report, history, config} = run;
  const e = report.evaluation;
  const target = config.target_return === null ? "" :
    `target ${short(config.target_return)}`;
  const bound = config.max_env_steps === null ? "" :
    `of ${number(config.max_env_steps)}`;
  byId("tiles").replaceChildren(
      tile("Evaluation", e ? short(e.mean_return) : "–", "mean return",
           [target, e ? `${e.episodes} episodes` : ""].filter(Boolean)
               .join(", ")),
      tile("Actors' return", short(report.exploring_return), "",
           "exploring", history.exploring_return),
      tile("Env steps", short(report.env_steps_per_second), "/s",
           [number(report.env_steps), bound].filter(Boolean).join(" "),
           history.env_steps_per_second),
      tile("Updates", short(report.updates_per_second), "/s",
           number(report.updates), history.updates_per_second),
      tile("Loss", short(report.loss), "",
           `mean Q ${short(report.mean_q)}`),
      tile("Samples per insert", short(report.samples_per_insert), "",
           config.samples_per_insert > 0 ?
             `target ${short(config.samples_per_insert)}` : "no target"));
}

function waitingSentence(run) {
  const {report} = run;
  const share = report.share_waiting_for_replay;
  if (run.waiting) return `The learner waits: ${run.waiting}`;
  if (report.state === "starting") return "Nothing has been reported yet.";
  if (share >= 0.3) {
    const slower = run.limiter_balance <= -0.9 ?
        "too little is inserted, the actors are the slower side." :
      run.limiter_balance >= 0.9 ?
        "enough is inserted, but the shards or the way to them are slow." :
        "the actors or the shards are the slower side.";
    return `The learner waits for the replay ${percent(share)} of its time: ${
      slower}`;
  }
  if (run.limiter_balance >= 0.9) {
    return "The actors wait for the learner: the rate limiter holds their " +
      "inserts back until more is sampled.";
  }
  return "Nobody waits for long: the learner has its batches, " +
    "the actors may insert.";
}

function showWaits(run) {
  const r = run.report;
  byId("waits").textContent = waitingSentence(run);
  const parts = [
    ["updating", r.share_updating], ["waiting", r.share_waiting_for_replay],
    ["copying", r.share_copying], ["publishing", r.share_publishing],
    ["priorities", r.share_priorities]];
  const known = parts.reduce((total, [, share]) => total + share, 0);
  parts.push(["the rest", Math.max(0, 1 - known)]);
  byId("time").replaceChildren(...parts.map(([, share], i) => {
    const part = element("i", undefined, `part${i + 1}`);
    part.style.width = `${100 * share / Math.max(1, known)}%`;
    return part;
  }));
  byId("time").setAttribute("aria-label", parts.map(
      ([name, share]) => `${name} ${percent(share)}`).join(", "));
  byId("time-legend").replaceChildren(...parts.map(([name, share], i) => {
    const item = element("li");
    item.append(element("i", undefined, `part${i + 1}`),
                element("span", name), element("b", percent(share)));
    return item;
  }));
  const balance = Math.max(-1, Math.min(1, run.limiter_balance));
  byId("balance").firstElementChild.style.left = `${50 + 50 * balance}%`;
  byId("balance").setAttribute(
      "aria-label",
      `Balance ${balance.toFixed(2)}, from -1, the learner waits, to 1, ` +
      "the actors wait");
}

function showRun(status, view) {
  const {run} = status, {report, config} = run;
  byId("run").hidden = false;
  showCurve(run);
  showTiles(run);
  showWaits(run);
  byId("meters").replaceChildren(
      meter("items", report.replay_items, config.max_items,
            (v) => compact.format(v)),
      meter("memory", report.replay_bytes, config.max_bytes, bytes));
  const few = (now, all) => now < all ? "bad" : "";
  pairs(byId("replay"), [
    ["items before sampling begins", number(config.min_items)],
    ["inserted", number(run.inserted)],
    ["sampled", number(run.sampled)],
    ...(view.has("qfleet_sampler_shards") ? [[
      "shards connected", `${report.shards} of ${config.shards}`,
      few(report.shards, config.shards)]] : []),
  ]);
  pairs(byId("actors"), [
    ["actors connected", `${report.actors} of ${config.actors}`,
     status.role === "learner" ? few(report.actors, config.actors) : ""],
    ["episodes", number(report.episodes)],
    ["policy version", number(report.policy_version)],
    ["oldest policy in use", duration(report.weight_age_seconds)],
  ]);
  const bad = (value) => [number(value), value > 0 ? "wait" : ""];
  pairs(byId("lost"), [
    ["updates skipped, not finite", ...bad(report.updates_skipped)],
    ["priorities that came too late", number(report.priorities_stale)],
    ["priorities that never arrived",
     ...bad(view.sum("qfleet_sampler_priorities_dropped_total"))],
    ["checkpoints left out",
     ...bad(view.sum("qfleet_learner_checkpoints_skipped_total"))],
    ["calls that failed", ...bad(failedCalls(view))],
  ]);
}

function failedCalls(view) {
  const family = view.list.find((f) => f.name === "grpc_server_handled_total");
  return (family ? family.samples : [])
      .filter((s) => !["OK", "CANCELLED"].includes(s.labels.grpc_code))
      .reduce((total, s) => total + s.value, 0);
}
