// The explorer: any curve of the report against sparsity, with a cursor that reads off all series at once.

const SIZE = { width: 720, height: 310, left: 58, right: 12, top: 10, bottom: 46 };
const SPARSITIES = [0, 0.9, 0.99, 0.999, 0.5, 0.95, 0.995, 0.8, 0.98];

function element(name, attributes, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

// Even steps of pruning are even distances.
const stretched = (sparsity) => -Math.log(1 - Math.min(sparsity, 1 - 1e-9));
const isShare = (measure) => /accuracy|error|difference|regret/.test(measure);
const spoken = (name) => name.replaceAll("_", " ").replace(/^./, (first) => first.toUpperCase());

function written(value, measure) {
  if (value === undefined) return "–";
  return (isShare(measure) ? (100 * value).toFixed(1) : value.toPrecision(3)).replace("-", "−");
}

function niceTicks(low, high) {
  const raw = (high - low) / 5 || 1, power = 10 ** Math.floor(Math.log10(raw));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= raw);
  const ticks = [];
  for (let n = Math.ceil(low / step - 1e-9); n * step <= high + 1e-9 * step; n++) ticks.push(n * step);
  return ticks;
}

function scales(curves) {
  const values = curves.flatMap((curve) => [...curve.mean, ...(curve.low || []), ...(curve.high || [])]);
  const low = Math.min(...values), high = Math.max(...values), room = 0.05 * (high - low || 1);
  const last = stretched(Math.max(...curves.flatMap((curve) => curve.x)));
  const across = SIZE.width - SIZE.left - SIZE.right, up = SIZE.height - SIZE.top - SIZE.bottom;
  return {
    low: low - room,
    high: high + room,
    x: (sparsity) => SIZE.left + (across * stretched(sparsity)) / (last || 1),
    y: (value) => SIZE.top + (up * (high + room - value)) / (high - low + 2 * room),
  };
}

function drawAxes(svg, scale, measure) {
  const bottom = SIZE.height - SIZE.bottom, right = SIZE.width - SIZE.right, places = [];
  for (const tick of niceTicks(scale.low, scale.high)) {
    svg.append(element("line", { x1: SIZE.left, x2: right, y1: scale.y(tick), y2: scale.y(tick), stroke: "#e4e6e9" }));
    const label = Number((isShare(measure) ? 100 * tick : tick).toPrecision(6));
    svg.append(element("text", { x: SIZE.left - 8, y: scale.y(tick) + 4, "text-anchor": "end" }, label));
  }
  for (const tick of SPARSITIES) {
    const x = scale.x(tick);
    if (x > right + 1 || places.some((other) => Math.abs(other - x) < 48)) continue;
    places.push(x);
    svg.append(element("line", { x1: x, x2: x, y1: bottom, y2: bottom + 5, stroke: "#6b7280" }));
    svg.append(element("text", { x, y: bottom + 19, "text-anchor": "middle" }, Number((100 * tick).toPrecision(6))));
  }
  svg.append(element("path", { d: `M${SIZE.left},${SIZE.top}V${bottom}H${right}`, fill: "none", stroke: "#6b7280" }));
  svg.append(element("text", { x: (SIZE.left + right) / 2, y: bottom + 38, "text-anchor": "middle" }, "Sparsity (%)"));
}

function drawCurve(svg, scale, curve) {
  const path = (values) => values.map((value, n) => `${scale.x(curve.x[n]).toFixed(1)},${scale.y(value).toFixed(1)}`);
  if (curve.low) {
    const band = [...path(curve.high), ...path(curve.low).reverse()].join("L");
    svg.append(element("path", { d: `M${band}Z`, fill: curve.colour, opacity: 0.18 }));
  }
  const stroke = { stroke: curve.colour, "stroke-width": 2.2, "stroke-dasharray": curve.dash, fill: "none" };
  svg.append(element("path", { d: `M${path(curve.mean).join("L")}`, ...stroke }));
}

function explore(section) {
  const figures = JSON.parse(document.getElementById("curves").textContent);
  const [figure, panel, measure] = ["figure", "panel", "measure"].map((name) => section.querySelector(`[name=${name}]`));
  const [plot, slider, table] = ["svg", "input", "tbody"].map((name) => section.querySelector(name));
  const fill = (select, names) => {
    const before = select.value;
    select.replaceChildren(...names.map((name) => new Option(spoken(name) || "all", name)));
    if (names.includes(before)) select.value = before;
    select.parentElement.hidden = names.length < 2;
  };
  let curves, scale, stops;

  function read() {
    const at = stops[slider.value];
    plot.querySelector(".cursor").setAttribute("d", `M${scale.x(at)},${SIZE.top}V${SIZE.height - SIZE.bottom}`);
    slider.setAttribute("aria-valuetext", `${(100 * at).toFixed(1)}% sparsity`);
    section.querySelector(".at").textContent = `At ${(100 * at).toFixed(1)}% sparsity`;
    table.replaceChildren(...curves.map((curve) => {
      const n = curve.x.findIndex((x) => Math.abs(x - at) < 1e-5), row = document.createElement("tr");
      const value = n < 0 ? "–" : written(curve.mean[n], curve.measure);
      const interval = n < 0 || !curve.low ? "" : ` [${written(curve.low[n], curve.measure)}, ${written(curve.high[n], curve.measure)}]`;
      const key = element("svg", { width: 30, height: 8, "aria-hidden": "true" });
      key.append(element("path", { d: "M0,4H30", stroke: curve.colour, "stroke-width": 2.2, "stroke-dasharray": curve.dash }));
      row.insertCell().append(key);
      row.insertCell().textContent = curve.series;
      row.insertCell().textContent = value + interval;
      return row;
    }));
  }

  function draw() {
    const chosen = figures[figure.value];
    fill(panel, [...new Set(chosen.curves.map((curve) => curve.panel))]);
    fill(measure, [...new Set(chosen.curves.filter((curve) => curve.panel === panel.value).map((curve) => curve.measure))]);
    curves = chosen.curves.filter((curve) => curve.panel === panel.value && curve.measure === measure.value);
    stops = [...new Set(curves.flatMap((curve) => curve.x))].sort((a, b) => a - b);
    scale = scales(curves);
    plot.replaceChildren();
    drawAxes(plot, scale, measure.value);
    curves.forEach((curve) => drawCurve(plot, scale, curve));
    plot.append(element("path", { class: "cursor", stroke: "#22262b", "stroke-dasharray": "2 3" }));
    const share = isShare(measure.value) ? /difference|regret/.test(measure.value) ? " (points)" : " (%)" : "";
    section.querySelector(".measured").textContent = spoken(measure.value) + share;
    slider.max = stops.length - 1;
    slider.value = Math.min(slider.value, slider.max);
    section.querySelector(".csv").href = chosen.csv;
    section.querySelector(".page").href = chosen.page;
    read();
  }

  plot.addEventListener("pointermove", (event) => {
    const box = plot.getBoundingClientRect(), x = ((event.clientX - box.left) * SIZE.width) / box.width;
    const distance = (stop) => Math.abs(scale.x(stop) - x);
    slider.value = stops.reduce((best, stop, n) => (distance(stop) < distance(stops[best]) ? n : best), 0);
    read();
  });
  slider.addEventListener("input", read);
  for (const select of [figure, panel, measure]) select.addEventListener("change", draw);
  figure.replaceChildren(...figures.map((each, n) => new Option(each.name, n)));
  section.hidden = false;
  draw();
  slider.value = slider.max / 2;
  read();
}

document.querySelectorAll("section.explorer").forEach(explore);
