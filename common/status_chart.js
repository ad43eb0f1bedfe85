// The return curve and the small curves of the tiles.

const svgNode = (name, attributes, ...children) => {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const key in attributes) node.setAttribute(key, attributes[key]);
  node.append(...children);
  return node;
};

// About `count` round numbers over [low, high].
function ticksOf(low, high, count) {
  const raw = (high - low) / Math.max(1, count);
  const power = 10 ** Math.floor(Math.log10(raw || 1));
  const step = power * ([1, 2, 5].find((f) => f * power >= raw) || 10);
  const ticks = [];
  const end = high + step * 1e-9;
  for (let k = Math.ceil(low / step - 1e-9) || 0; k * step <= end; ++k) {
    ticks.push(k * step);
  }
  return ticks;
}

// A curve with its band, a second curve, a target; hover and arrow keys read
// values. `tell(index)` gives the lines of the tip, the first one in bold.
class Chart {
  constructor(box, onValue) {
    this.box = box;
    this.onValue = onValue;
    this.tip = document.createElement("div");
    this.tip.className = "tip";
    this.tip.hidden = true;
    this.chosen = -1;
    this.svg = svgNode("svg", {role: "img", tabindex: 0});
    box.append(this.svg, this.tip);
    new ResizeObserver(() => this.draw()).observe(box);
    box.addEventListener("pointermove", (event) => this.choose(event));
    box.addEventListener("pointerdown", (event) => this.choose(event));
    box.addEventListener("pointerleave", () => this.pick(-1));
    box.addEventListener("keydown", (event) => this.step(event));
    box.addEventListener("focusout", () => this.pick(-1));
  }

  // data: {x, y, low, high, tell, xLabel, yLabel, xFormat, yFormat, target,
  // other: {x, y}, summary}
  show(data) {
    this.data = data;
    this.draw();
  }

  choose(event) {
    const data = this.data;
    if (!data || data.x.length === 0) return;
    const at = event.clientX - this.box.getBoundingClientRect().left;
    let best = 0;
    data.x.forEach((x, i) => {
      if (Math.abs(this.px(x) - at) < Math.abs(this.px(data.x[best]) - at)) {
        best = i;
      }
    });
    this.pick(best);
  }

  step(event) {
    const last = this.data ? this.data.x.length - 1 : -1;
    const moves = {ArrowLeft: -1, ArrowRight: 1, Home: -1e9, End: 1e9};
    const move = moves[event.key];
    if (event.key === "Escape") this.pick(-1);
    if (move === undefined || last < 0) return;
    event.preventDefault();
    const from = this.chosen < 0 ? last + (move < 0 ? 1 : 0) : this.chosen;
    this.pick(Math.min(last, Math.max(0, from + move)));
    this.onValue(this.data.tell(this.chosen).join(", "));
  }

  pick(index) {
    if (index === this.chosen) return;
    this.chosen = index;
    this.draw();
  }

  px(x) {
    const [low, high] = this.xRange;
    return this.left + (x - low) / (high - low || 1) * this.width;
  }
  py(y) {
    const [low, high] = this.yRange;
    return this.top + (high - y) / (high - low || 1) * this.height;
  }

  points(x, y) {
    const text = [];
    x.forEach((value, i) => {
      if (y[i] !== null && value !== null) {
        text.push(`${this.px(value).toFixed(1)},${this.py(y[i]).toFixed(1)}`);
      }
    });
    return text;
  }

  measure(data) {
    const full = [this.box.clientWidth, this.box.clientHeight];
    const ys = [...data.low, ...data.high, ...data.y, ...data.other.y]
        .filter((y) => y !== null);
    if (data.target !== null) ys.push(data.target);
    let low = ys.length ? Math.min(0, ...ys) : 0;
    let high = ys.length ? Math.max(...ys) : 1;
    if (high <= low) high = low + 1;
    const pad = (high - low) * 0.06;
    this.yRange = [low < 0 ? low - pad : low, high + pad];
    const xs = [...data.x, ...data.other.x];
    this.xRange = [0, Math.max(...xs, 1e-9)];
    this.yTicks = ticksOf(...this.yRange, full[1] / 60);
    const widest = Math.max(...this.yTicks.map(
        (y) => data.yFormat(y).length));
    this.left = 28 + widest * 7;
    this.top = 10;
    this.width = full[0] - this.left - 16;
    this.height = full[1] - this.top - 42;
    return full;
  }

  draw() {
    const data = this.data;
    if (!data || this.box.clientWidth === 0) return;
    const [full, tall] = this.measure(data);
    const svg = this.svg;
    svg.setAttribute("viewBox", `0 0 ${full} ${tall}`);
    svg.setAttribute("aria-label", data.summary);
    svg.replaceChildren();
    this.drawAxes(svg, data, full, tall);
    const other = this.points(data.other.x, data.other.y);
    if (other.length > 1) {
      svg.append(svgNode("polyline", {class: "exploring",
                                      points: other.join(" ")}));
    }
    const up = this.points(data.x, data.high);
    const down = this.points(data.x, data.low).reverse();
    if (up.length > 1) {
      svg.append(svgNode("polygon", {class: "band",
                                     points: [...up, ...down].join(" ")}));
    }
    if (data.target !== null) this.drawTarget(svg, data);
    svg.append(svgNode("polyline", {
      class: "mean", points: this.points(data.x, data.y).join(" ")}));
    if (data.x.length <= 60) {
      data.x.forEach((x, i) => svg.append(svgNode("circle", {
        class: "dot", r: 2.6, cx: this.px(x), cy: this.py(data.y[i])})));
    }
    if (data.x.length === 0) {
      svg.append(svgNode("text", {
        class: "empty", x: this.left + this.width / 2,
        y: this.top + this.height / 2, "text-anchor": "middle"},
        "no evaluation yet"));
    }
    this.drawChosen(svg, data, full);
  }

  drawAxes(svg, data, full, tall) {
    const bottom = this.top + this.height;
    for (const y of this.yTicks) {
      const at = this.py(y);
      svg.append(svgNode("line", {class: "grid", x1: this.left, x2: full - 16,
                                  y1: at, y2: at}),
                 svgNode("text", {x: this.left - 7, y: at + 4,
                                  "text-anchor": "end"}, data.yFormat(y)));
    }
    for (const x of ticksOf(...this.xRange, this.width / 100)) {
      svg.append(svgNode("line", {class: "axis", x1: this.px(x),
                                  x2: this.px(x), y1: bottom, y2: bottom + 4}),
                 svgNode("text", {x: this.px(x), y: bottom + 18,
                                  "text-anchor": "middle"}, data.xFormat(x)));
    }
    svg.append(
        svgNode("line", {class: "axis", x1: this.left, x2: full - 16,
                         y1: bottom, y2: bottom}),
        svgNode("text", {x: this.left + this.width / 2, y: tall - 6,
                         "text-anchor": "middle"}, data.xLabel),
        svgNode("text", {transform: `translate(12 ${
            this.top + this.height / 2}) rotate(-90)`,
                         "text-anchor": "middle"}, data.yLabel));
  }

  drawTarget(svg, data) {
    const y = this.py(data.target);
    svg.append(svgNode("line", {class: "target", x1: this.left,
                                x2: this.left + this.width, y1: y, y2: y}),
               svgNode("text", {class: "target", x: this.left + 6, y: y + 15},
                       `target ${data.yFormat(data.target)}`));
  }

  drawChosen(svg, data, full) {
    this.tip.hidden = this.chosen < 0 || this.chosen >= data.x.length;
    if (this.tip.hidden) return;
    const x = this.px(data.x[this.chosen]);
    const y = this.py(data.y[this.chosen]);
    svg.append(svgNode("line", {class: "cross", x1: x, x2: x, y1: this.top,
                                y2: this.top + this.height}),
               svgNode("circle", {class: "dot", cx: x, cy: y, r: 5}));
    const [first, ...rest] = data.tell(this.chosen);
    const bold = document.createElement("b");
    bold.textContent = first;
    this.tip.replaceChildren(bold);
    for (const line of rest) {
      this.tip.append(document.createElement("br"), line);
    }
    const right = x > full / 2;
    this.tip.style.left = right ? "auto" : `${x + 12}px`;
    this.tip.style.right = right ? `${full - x + 12}px` : "auto";
  }
}

// A small curve, 0 within it, without axes.
function sparkline(values) {
  const known = values.filter((v) => v !== null);
  const low = Math.min(...known, 0);
  const range = Math.max(...known, 0) - low || 1;
  const points = known.map((v, i) =>
    `${(100 * i / Math.max(1, known.length - 1)).toFixed(2)},${
      (29 - 27 * (v - low) / range).toFixed(2)}`);
  return svgNode("svg", {viewBox: "0 0 100 30", preserveAspectRatio: "none",
                         "aria-hidden": "true"},
                 svgNode("polyline", {points: points.join(" ")}));
}
