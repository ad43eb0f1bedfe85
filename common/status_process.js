// What processes without a run show, all metrics, and the polling.

function showTable(view, table, others) {
  const labels = {table};
  const get = (name) => view.get(`qfleet_replay_${name}`, labels) ?? 0;
  const side = (name, who) =>
    view.get(`qfleet_replay_${name}`, {side: who, table}) ?? 0;
  const filled = (name, value, most, format) => {
    const box = tile(name, format(value), "", `of ${format(most)}`);
    box.append(bar(value, most));
    return box;
  };
  const flow = (name, metric) => {
    const per = view.rate(`qfleet_replay_${metric}`, labels);
    return tile(name, per === null ? "–" : short(per), "/s",
                `${number(get(metric))} in all`);
  };
  const waits = (name, who) => {
    const count = ["samples", "inserts", "items"].reduce(
        (sum, what) => sum + (view.get("qfleet_replay_waiting",
                                       {reason: what, side: who, table}) ?? 0), 0);
    return tile(name, number(count), "", count === 0 ? "by the rate limiter" :
      `the longest for ${duration(side("longest_wait_seconds", who))}`);
  };
  const tiles = element("div", undefined, "tiles");
  const size = (v) => compact.format(v);
  tiles.append(
      filled("Items", get("items"), get("max_items"), size),
      filled("Memory", get("bytes"), get("max_bytes"), bytes),
      flow("Inserted", "items_inserted_total"),
      flow("Sampled", "items_sampled_total"),
      waits("Writers held back", "insert"),
      waits("Samplers held back", "sample"),
      tile("Refused", number(get("rejected_total")), "", "as malformed"));
  others.append(element("h2", `Table ${table}`), tiles);
}

// Tiles of each role: [title, metric, how: "rate" | "value" | a format]
const kTiles = {
  actor: [
    ["Env steps", "qfleet_actor_env_steps_total", "rate"],
    ["Episodes", "qfleet_actor_episodes_total", "value"],
    ["Policy version", "qfleet_actor_policy_version", "value"],
    ["Policy age", "qfleet_actor_policy_age_seconds", duration],
    ["Shards connected", "qfleet_actor_shards_connected", "value"],
    ["Unacknowledged", "qfleet_actor_unacknowledged_bytes", bytes],
    ["Waiting for shards", "qfleet_actor_writer_wait_seconds_total", "share"],
  ],
  evaluator: [
    ["Evaluations", "qfleet_evaluator_evaluations_total", "value"],
    ["Mean return", "qfleet_evaluator_mean_return", short],
    ["The last took", "qfleet_evaluator_duration_seconds", duration],
  ],
  relay: [
    ["Actors", "qfleet_relay_actors", "value"],
    ["Subscribers", "qfleet_relay_subscribers", "value"],
    ["Policy version", "qfleet_relay_policy_version", "value"],
    ["Policy age", "qfleet_relay_policy_age_seconds", duration],
    ["Sent", "qfleet_relay_sent_bytes_total", "rate"],
  ],
};

function showOthers(status, view) {
  const others = byId("others");
  others.hidden = false;
  others.replaceChildren();
  const kind = status.role.replace(/-\d+$/, "");
  const tiles = element("section", undefined, "tiles");
  for (const [name, metric, how] of kTiles[kind] ?? []) {
    if (!view.has(metric)) continue;
    const value = view.get(metric), per = view.rate(metric);
    if (how === "rate") {
      tiles.append(tile(name, per === null ? "–" : short(per), "/s",
                        `${compact.format(value)} in all`));
    } else if (how === "share") {
      tiles.append(tile(name, per === null ? "–" : percent(per), "of its time"));
    } else {
      tiles.append(tile(name, how === "value" ? number(value) : how(value)));
    }
  }
  if (tiles.childElementCount > 0) others.append(tiles);
  const items = view.list.find((f) => f.name === "qfleet_replay_items");
  if (!items) return;
  for (const sample of items.samples) {
    showTable(view, sample.labels.table, others);
  }
}

function showProcess(status, view) {
  const disk = view.list.find((f) => f.name.endsWith("_disk_available_bytes"));
  const cpu = view.rate("process_cpu_seconds_total");
  pairs(byId("process"), [
    ["up", duration(status.uptime_seconds)],
    ["ready", status.ready ? "yes" : "no"],
    ["CPU", cpu === null ? "–" : `${cpu.toFixed(2)} cores`],
    ["memory", bytes(view.get("process_resident_memory_bytes") ?? 0)],
    ["memory left",
     bytes(view.get("qfleet_process_memory_available_bytes") ?? 0)],
    ["open files", `${number(view.get("process_open_fds"))} of ${
      compact.format(view.get("process_max_fds") ?? 0)}`],
    ...(disk ? [["disk left", bytes(disk.samples[0].value ?? 0)]] : []),
    ["process id", String(status.pid)],
  ]);
  byId("version").textContent = `qfleet ${status.version}`;
  if (byId("all").open) showMetrics(view);
}

function showMetrics(view) {
  const wanted = byId("find").value.trim().toLowerCase();
  const head = element("tr");
  for (const name of ["metric", "value", "per second"]) {
    head.append(element("th", name));
  }
  const rows = [head];
  for (const family of view.list) {
    for (const sample of family.samples) {
      const labels = Object.entries(sample.labels ?? {})
          .map(([name, value]) => `${name}="${value}"`).join(", ");
      const text = family.name + (labels ? `{${labels}}` : "");
      if (!(text + family.help).toLowerCase().includes(wanted)) continue;
      const row = element("tr");
      const name = element("td");
      name.append(element("code", text));
      name.title = family.help;
      const per = family.type === "gauge" ? null :
        view.rate(family.name, sample.labels);
      row.append(name, element("td", short(sample.value ?? sample.count)),
                 element("td", per === null ? "" : short(per)));
      rows.push(row);
    }
  }
  byId("metrics").replaceChildren(...rows);
}

// --------------------------------------------------------------- polling ---

let last = null;       // {pid, view, at}
let lostAt = null;

function describe(status) {
  const {run} = status;
  if (!run) return [status.ready ? "running" : "not ready",
                    status.ready ? "good" : "wait"];
  if (run.summary) return [run.summary.split(":")[0], "good"];
  if (run.waiting) return ["waiting", "wait"];
  return [run.report.state, run.report.state === "training" ? "good" : "wait"];
}

function show(status) {
  const view = new MetricView(status, last);
  last = {pid: status.pid, view, at: Date.now()};
  shown = status;
  lostAt = null;
  byId("notice").hidden = true;
  const [state, mark] = describe(status);
  byId("state").textContent = state;
  byId("state").className = `pill ${mark}`;
  const {run} = status;
  const title = run ? run.config.name || run.config.environment : status.role;
  byId("title").textContent = title;
  document.title = `${title} – ${state} – qfleet ${status.role}`;
  byId("subtitle").textContent = run ?
    `${run.config.environment} · ${run.config.algorithm.replace("_", " ")} · ${
      duration(run.report.wall_seconds)}` : "";
  if (run) showRun(status, view); else showOthers(status, view);
  if (run && run.summary) notify(`The run has ended: ${run.summary}.`);
  showProcess(status, view);
}

function notify(text) {
  // Only what is new is read out.
  if (byId("notice").textContent !== text) byId("notice").textContent = text;
  byId("notice").hidden = false;
}

function nobody() {
  lostAt ??= last ? last.at : Date.now();
  if (Date.now() - lostAt < kSilentMs) return;
  const name = shown ? shown.role : "process";
  byId("state").textContent = "no answer";
  byId("state").className = "pill bad";
  const how = shown && shown.run && shown.run.summary ?
    ` The run has ended: ${shown.run.summary}.` : "";
  notify(`The ${name} does not answer any more.${how} ` + (shown ?
    `This is what it said at ${new Date(last.at).toLocaleTimeString()}.` : ""));
  if (shown) document.title = `no answer – qfleet ${name}`;
}

async function poll() {
  try {
    const response = await fetch("status.json", {
      cache: "no-store", signal: AbortSignal.timeout(kTimeoutMs)});
    if (!response.ok) throw new Error(response.statusText);
    show(await response.json());
  } catch (error) {
    if (error instanceof TypeError && shown && !lostAt) lostAt = last.at;
    nobody();
  }
}

let timer = 0;
async function loop() {
  clearTimeout(timer);
  await poll();
  const slow = document.hidden ||
    (lostAt !== null && Date.now() - lostAt > 30000);
  timer = setTimeout(loop, slow ? kSlowPollMs : kPollMs);
}

setInterval(() => {
  if (!last) return;
  const seconds = Math.round((Date.now() - last.at) / 1000);
  byId("age").textContent = seconds < 3 ? "live" :
    `${duration(seconds)} ago`;
}, 500);
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) loop();
});
byId("all").addEventListener("toggle", () => last && showMetrics(last.view));
byId("find").addEventListener("input", () => last && showMetrics(last.view));
showLegend();
loop();
