// Pictures: drawn in the width there is, and drawn again when it changes. A tooltip tells what the
// mark nearest to the pointer is; the arrow keys move it from mark to mark.
{
  const HUES = 8; // .s0 to .s7, and .d0 to .d7 of a scale
  const SHAPES = [
    (r) => `M${-r},0a${r},${r} 0 1,0 ${2 * r},0a${r},${r} 0 1,0 ${-2 * r},0z`,
    (r) => `M${-r},${-r}H${r}V${r}H${-r}z`,
    (r) => `M0,${-1.3 * r}L${1.2 * r},${r}H${-1.2 * r}z`,
    (r) => `M0,${-1.4 * r}L${1.4 * r},0L0,${1.4 * r}L${-1.4 * r},0z`,
  ];
  const STRIP = 22; // the height of an edge for what the scale cannot show
  const MARKED_LINE = 60; // longer lines have a mark here and there
  const FEW_MARKS = 12;
  const NAMED = 20; // pixels that a name needs below its mark
  const PRINTED = 1000; // the width of a picture on paper

  function svg(parent, name, attributes = {}, text = "") {
    const node = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    node.textContent = text;
    parent.append(node);
    return node;
  }

  function numeral(value) {
    if (typeof value !== "number") return String(value);
    const size = Math.abs(value);
    if (value !== 0 && (size < 1e-4 || size >= 1e6)) {
      return value.toExponential(3).replace(/\.?0+e/, "e").replace("e+", "e");
    }
    return String(Number(value.toPrecision(4)));
  }

  // At most `most` round numbers in [low, high].
  function roundTicks(low, high, most) {
    const rough = (high - low) / most;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough * 0.999);
    const ticks = [];
    for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) ticks.push(i * step);
    return ticks;
  }

  // The same in [10 ** from, 10 ** to].
  function logTicks(from, to, most) {
    if (to - from < 0.5) return roundTicks(10 ** from, 10 ** to, most);
    const factors = to - from < 1 ? [1, 2, 3, 5, 7] : to - from < 2.2 ? [1, 2, 5] : [1];
    const every = Math.max(1, Math.ceil((to - from) / most));
    const ticks = [];
    for (let power = Math.floor(from); power <= to; power++) {
      if (power % every) continue;
      for (const factor of factors) ticks.push(Number(`${factor}e${power}`));
    }
    return ticks.filter((tick) => Math.log10(tick) >= from && Math.log10(tick) <= to);
  }

  // An axis on [start, end] in pixels for these numbers, with a margin at both ends.
  function axis(values, log, start, end, most, margin = 0.06) {
    const map = log ? Math.log10 : (value) => value;
    let low = Infinity;
    let high = -Infinity;
    for (const value of values) {
      low = Math.min(low, map(value));
      high = Math.max(high, map(value));
    }
    if (low > high) [low, high] = log ? [-1, 0] : [0, 1];
    const least = log ? 0.3 : Math.abs(high) * 0.1 || 1; // so that equal values are no noise
    const more = high - low < least && margin ? (least - (high - low)) / 2 : (high - low) * margin;
    [low, high] = [low - more, high + more];
    const at = (value) => start + ((map(value) - low) / (high - low || 1)) * (end - start);
    return { at, ticks: (log ? logTicks : roundTicks)(low, high, most) };
  }

  // Names without the parts that all of them begin with, such as "model.layers.".
  function apart(names) {
    if (names.length < 2) return names;
    const parts = names[0].split(".");
    let same = 0;
    while (same < parts.length - 1 && names.every((name) => name.startsWith(parts.slice(0, same + 1).join(".") + "."))) same++;
    const common = parts.slice(0, same).join(".").length;
    return names.map((name) => (common > 3 ? `\u2026${name.slice(common + 1)}` : name));
  }

  function shortened(name, length) {
    if (name.length <= length) return name;
    return `${name.slice(0, Math.floor(length / 3))}\u2026${name.slice(-Math.ceil((length * 2) / 3) + 1)}`;
  }

  function drawChart(root, data, width) {
    const narrow = width < 560;
    const all = data.series.flatMap((series) => series.y).filter((y) => y !== null);
    const ends = data.series.flatMap((series) => [...(series.low ?? []), ...(series.high ?? [])]);
    const fits = (y) => typeof y === "number" && (!data.log || y > 0);
    const below = all.some((y) => typeof y === "number" && !fits(y));
    const above = all.some((y) => typeof y === "string");

    const letters = narrow ? 15 : 24;
    const named = data.names.length > 0 && (width - 70) / data.names.length >= NAMED;
    const names = named ? apart(data.names) : [];
    const slant = (name) => 4.9 * Math.min(name.length, letters);
    const top = 24;
    const plot = narrow ? 230 : width === PRINTED ? 190 : 300; // two on a sheet
    const bottom = top + plot + (below ? STRIP : 0) + (above ? STRIP : 0);
    const first = top + (above ? STRIP : 0);
    const last = bottom - (below ? STRIP : 0);
    const compared = data.reference === null || !all.some(fits) ? [] : [data.reference];
    const y = axis([...all.filter(fits), ...ends.filter(fits), ...compared], data.log, last, first, narrow ? 5 : 7);
    const left = Math.max(
      34,
      12 + 7 * Math.max(0, ...y.ticks.map((tick) => numeral(tick).length)),
      above ? 50 : 0,
      named ? slant(names[0]) - 8 : 0, // it begins at the left of its mark
    );
    const right = width - 20;
    const inset = Math.min(16, (right - left) / (2 * data.x.length + 1));
    const x = axis(data.x, false, left + inset, right - inset, narrow ? 5 : 10, 0);
    const places = data.x.length === 1 ? [(left + right) / 2] : data.x.map(x.at);
    const underneath = named ? 18 + 0.78 * Math.max(...names.map(slant)) : 22;
    const height = bottom + underneath + (data.xLabel ? 18 : 0);
    root.setAttribute("viewBox", `0 0 ${width} ${height}`);

    svg(root, "text", { x: 0, y: 13 }, data.yLabel + (data.log ? " (log scale)" : ""));
    for (const tick of y.ticks) {
      svg(root, "line", { class: "grid", x1: left, x2: right, y1: y.at(tick), y2: y.at(tick) });
      svg(root, "text", { x: left - 6, y: y.at(tick) + 4, "text-anchor": "end" }, numeral(tick));
    }
    for (const value of compared) {
      svg(root, "line", { class: "reference", x1: left, x2: right, y1: y.at(value), y2: y.at(value) });
    }
    const edge = (from, label) => {
      svg(root, "rect", { class: "edge", x: left, y: from, width: right - left, height: STRIP });
      svg(root, "text", { x: left - 6, y: from + STRIP / 2 + 4, "text-anchor": "end" }, label);
    };
    if (below) edge(last, all.some((value) => value < 0) ? "\u2264 0" : "0");
    if (above) edge(top, "\u221e, nan");
    svg(root, "line", { class: "axis", x1: left, x2: right, y1: bottom, y2: bottom });
    if (named) {
      names.forEach((name, i) => {
        const turn = `translate(${places[i] + 4},${bottom + 12}) rotate(-38)`;
        svg(root, "text", { transform: turn, "text-anchor": "end" }, shortened(name, letters));
      });
    } else {
      for (const tick of data.x.length === 1 ? data.x : x.ticks) {
        const place = data.x.length === 1 ? places[0] : x.at(tick);
        svg(root, "text", { x: place, y: bottom + 17, "text-anchor": "middle" }, numeral(tick));
      }
    }
    svg(root, "text", { x: right, y: height - 5, "text-anchor": "end" }, data.xLabel);

    const level = (value) => (typeof value === "string" ? top + STRIP / 2 : fits(value) ? y.at(value) : bottom - STRIP / 2);
    const distance = (right - left) / Math.max(1, data.x.length);
    const marks = [];
    data.series.forEach((series, s) => {
      const group = svg(root, "g", { class: hue(series) });
      const points = series.y.map((value, i) => (value === null ? null : [places[i], level(value)]));
      const spans = (series.low ?? []).map((low, i) => {
        const high = series.high[i];
        if (low === null || high === null || !fits(high)) return null;
        return [places[i], fits(low) ? y.at(low) : last, y.at(high)];
      });
      (series.marks === "line" ? drawBands : drawBars)(group, spans);
      if (series.marks === "line") {
        const line = points.map((p, i) => p && `${points[i - 1] ? "L" : "M"}${p[0].toFixed(1)},${p[1].toFixed(1)}`);
        const path = svg(group, "path", { class: "path", d: line.filter(Boolean).join("") });
        if (points.length > MARKED_LINE) path.classList.add("thin");
        path.setAttribute("stroke-dasharray", dashes(s));
      }
      points.forEach((point, i) => {
        if (point === null) return;
        if (isMarked(series, s, points, i)) drawMark(group, series, s, point, distance);
        marks.push({ i, x: point[0], y: point[1] });
      });
    });
    const guide = svg(root, "g");
    return {
      marks,
      places: places.map((_, i) => i).filter((i) => data.series.some((series) => series.y[i] !== null)),
      light(i) {
        guide.replaceChildren();
        if (i === null) return;
        svg(guide, "line", { class: "guide", x1: places[i], x2: places[i], y1: top, y2: bottom });
        for (const mark of marks.filter((one) => one.i === i)) {
          svg(guide, "circle", { class: "lit", cx: mark.x, cy: mark.y, r: 6 });
        }
      },
      at: (i) => [places[i], Math.min(...marks.filter((mark) => mark.i === i).map((mark) => mark.y))],
      tell(i) {
        const head = data.names.length ? data.names[i] : `${data.xLabel} ${numeral(data.x[i])}`;
        const values = data.series.filter((series) => series.y[i] !== null);
        return [head, ...values.map((series) => `${series.name}: ${numeral(series.y[i])}${range(series, i)}`)].join("\n");
      },
    };
  }

  // The bands of a line: one for each run of places that have an interval.
  function drawBands(group, spans) {
    let run = [];
    for (const span of [...spans, null]) {
      if (span !== null) run.push(span);
      else if (run.length) {
        const to = ([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`;
        const above = run.map(([x, , high]) => to([x, high]));
        const below = run.map(([x, low]) => to([x, low])).reverse();
        svg(group, "path", { class: "band", d: `M${[...above, ...below].join("L")}z` });
        run = [];
      }
    }
  }

  function drawBars(group, spans) {
    for (const [x, low, high] of spans.filter(Boolean)) {
      svg(group, "path", { class: "bar", d: `M${x - 4},${low}h8M${x},${low}V${high}M${x - 4},${high}h8` });
    }
  }

  function range(series, i) {
    const [low, high] = [series.low?.[i] ?? null, series.high?.[i] ?? null];
    return low === null || high === null ? "" : ` (${numeral(low)} to ${numeral(high)})`;
  }

  // Colours come again after the eighth series: with other strokes and marks.
  const dashes = (s) => ["none", "7 3", "2 3"][Math.floor(s / HUES) % 3];
  const hue = (series) => (series.scale === null ? `s${series.hue % HUES}` : `d${Math.round(series.scale * (HUES - 1))}`);
  const shape = (s) => SHAPES[(s + Math.floor(s / HUES)) % SHAPES.length];

  // Whether a value has a mark of its own: on a long line at even distances, each series elsewhere.
  function isMarked(series, s, points, i) {
    if (series.marks !== "line" || points.length <= MARKED_LINE) return true;
    const every = Math.ceil(points.length / FEW_MARKS);
    return (!points[i - 1] && !points[i + 1]) || i % every === Math.floor((every * ((s % HUES) + 0.5)) / HUES);
  }

  function drawMark(group, series, s, [x, y], distance) {
    if (series.marks === "dashes") {
      const half = Math.min(9, Math.max(2, distance * 0.42));
      svg(group, "line", { class: "mark dash", x1: x - half, x2: x + half, y1: y, y2: y });
      return;
    }
    const size = Math.min(3.4, Math.max(series.marks === "line" ? 2.4 : 1.8, distance * 0.4));
    svg(group, "path", { class: "mark", d: shape(s)(size), transform: `translate(${x.toFixed(1)},${y.toFixed(1)})` });
  }

  function drawRidges(root, data, width) {
    const rows = data.ridges;
    const step = Math.min(30, Math.max(5, 2400 / rows.length));
    const names = apart(rows.map((row) => row.name));
    const longest = Math.max(4, ...names.map((name) => name.length));
    const letters = Math.min(longest, width < 560 ? 16 : 34);
    const left = 14 + letters * 6.4;
    const right = width - 20;
    const top = 2 * step + 6;
    const bottom = top + (rows.length - 1) * step;
    const x = axis(rows.flatMap((row) => [row.low, row.high]), false, left, right, width < 560 ? 4 : 9, 0.02);
    const height = bottom + 24 + (data.xLabel ? 18 : 0);
    root.setAttribute("viewBox", `0 0 ${width} ${height}`);
    for (const tick of x.ticks) {
      svg(root, "line", { class: "grid", x1: x.at(tick), x2: x.at(tick), y1: 6, y2: bottom });
      svg(root, "text", { x: x.at(tick), y: bottom + 17, "text-anchor": "middle" }, numeral(tick));
    }
    svg(root, "text", { x: right, y: height - 5, "text-anchor": "end" }, data.xLabel);
    const every = Math.ceil(12 / step); // names that would touch are left out
    const marks = [];
    rows.forEach((row, i) => {
      const base = top + i * step;
      const highest = Math.max(1, ...row.counts);
      const bin = (row.high - row.low) / row.counts.length;
      const line = row.counts.map((count, k) => {
        const up = (base - (count / highest) * step * 1.9).toFixed(1);
        return `L${x.at(row.low + k * bin).toFixed(1)},${up}H${x.at(row.low + (k + 1) * bin).toFixed(1)}`;
      });
      const d = `M${x.at(row.low).toFixed(1)},${base}${line.join("")}V${base}z`;
      svg(root, "path", { class: "mark ridge", d });
      if (i % every === 0) {
        svg(root, "text", { x: left - 8, y: base, "text-anchor": "end" }, shortened(names[i], letters));
      }
      marks.push({ i, x: null, y: base - step / 2 });
    });
    const guide = svg(root, "g");
    return {
      marks,
      places: rows.map((_, i) => i),
      light(i) {
        guide.replaceChildren();
        if (i === null) return;
        const level = top + i * step;
        svg(guide, "line", { class: "guide", x1: left, x2: right, y1: level, y2: level });
      },
      at: (i) => [x.at((rows[i].low + rows[i].high) / 2), top + (i - 2) * step],
      tell(i) {
        const total = rows[i].counts.reduce((sum, count) => sum + count, 0);
        return `${rows[i].name}\n${total} values from ${numeral(rows[i].low)} to ${numeral(rows[i].high)}`;
      },
    };
  }

  function drawHeat(root, data, width) {
    const letters = Math.min(Math.max(4, ...data.rows.map((name) => name.length)), width < 560 ? 13 : 26);
    const left = 12 + letters * 6.4;
    const top = 22;
    const step = Math.min(110, (width - 20 - left) / data.columns.length);
    const tall = 34;
    const right = left + step * data.columns.length;
    const bottom = top + tall * data.rows.length;
    const longest = Math.max(...data.columns.map((name) => name.length));
    const fits = 6.4 * longest < step - 4;
    const shown = Math.min(longest, 20);
    const height = bottom + (fits ? 20 : 14 + 4.4 * shown) + (data.columnLabel ? 18 : 0);
    root.setAttribute("viewBox", `0 0 ${width} ${height}`);
    svg(root, "text", { x: 0, y: 13 }, data.rowLabel);
    data.rows.forEach((name, i) => {
      const at = { x: left - 8, y: top + (i + 0.5) * tall + 4, "text-anchor": "end" };
      svg(root, "text", at, shortened(name, letters));
    });
    data.columns.forEach((name, j) => {
      const x = left + (j + 0.5) * step;
      const at = fits ? { x, y: bottom + 16, "text-anchor": "middle" } : { transform: `translate(${x + 4},${bottom + 12}) rotate(-38)`, "text-anchor": "end" };
      svg(root, "text", at, shortened(name, shown));
    });
    svg(root, "text", { x: right, y: height - 5, "text-anchor": "end" }, data.columnLabel);
    const digits = step < 40 ? 2 : 3;
    const count = data.columns.length;
    const box = (i, more = {}) => ({ x: left + (i % count) * step, y: top + Math.floor(i / count) * tall, width: step, height: tall, ...more });
    const marks = [];
    const shade = (level) => 0.04 + 0.9 * level;
    const [fields, line, numbers] = [svg(root, "g"), svg(root, "g"), svg(root, "g")];
    data.values.flat().forEach((value, i) => {
      const level = data.levels.flat()[i];
      const field = svg(fields, "rect", box(i, { class: level === null ? "mark none" : "mark heat" }));
      if (level !== null) field.style.setProperty("--level", shade(level));
      const at = { x: left + ((i % count) + 0.5) * step, y: top + (Math.floor(i / count) + 0.5) * tall };
      const text = value === null ? "" : typeof value === "number" ? String(Number(value.toPrecision(digits))) : "\u221e";
      if (6.8 * text.length < step) {
        const number = svg(numbers, "text", { x: at.x, y: at.y + 4, "text-anchor": "middle", class: level > 0.7 ? "number high" : "number" }, text);
        if (level !== null) number.style.setProperty("--level", shade(level));
      }
      marks.push({ i, ...at });
    });
    if (data.line.length) {
      const points = data.line.map(([x, y]) => `${(left + x * step).toFixed(1)},${(top + y * tall).toFixed(1)}`);
      for (const name of ["under", "over"]) svg(line, "path", { class: name, d: `M${points.join("L")}` });
    }
    const guide = svg(root, "g");
    return {
      marks,
      places: marks.map(({ i }) => i),
      light(i) {
        guide.replaceChildren();
        if (i !== null) svg(guide, "rect", box(i, { class: "chosen" }));
      },
      at: (i) => [marks[i].x + step / 2, marks[i].y],
      tell(i) {
        const [row, column] = [data.rows[Math.floor(i / count)], data.columns[i % count]];
        const value = data.values.flat()[i];
        const named = [[data.rowLabel, row], [data.columnLabel, column]].map((pair) => pair.filter(Boolean).join(" "));
        return `${named.join(", ")}\n${value === null ? "none" : [data.label, numeral(value)].filter(Boolean).join(" ")}`;
      },
    };
  }

  function legend(figure, data) {
    if (data.kind !== "chart" || data.series.length < 2) return;
    const list = document.createElement("ul");
    list.className = "legend";
    data.series.forEach((series, s) => {
      const entry = document.createElement("li");
      entry.className = hue(series);
      const sample = svg(entry, "svg", { viewBox: "0 0 26 14", "aria-hidden": "true" });
      if (series.marks === "line") svg(sample, "path", { class: "path", d: "M0,7H26", "stroke-dasharray": dashes(s) });
      drawMark(sample, series, s, [13, 7], 20);
      entry.append(series.name);
      list.append(entry);
    });
    figure.append(list);
  }

  function show(figure) {
    const data = JSON.parse(figure.querySelector("script").textContent);
    legend(figure, data);
    const root = svg(figure, "svg", { role: "img", tabindex: 0, "aria-label": data.title, preserveAspectRatio: "xMinYMin" });
    const tip = document.createElement("div");
    tip.className = "tip";
    tip.setAttribute("role", "status");
    figure.append(tip);
    let drawn = null;
    let width = 0;
    let chosen = null; // the place that the tooltip is about

    function choose(i) {
      chosen = i;
      drawn.light(i);
      tip.textContent = i === null ? "" : drawn.tell(i);
      if (i === null) return;
      const scale = root.clientWidth / width;
      const [x, y] = drawn.at(i).map((value) => value * scale);
      const left = x + 14 + tip.offsetWidth > figure.clientWidth ? x - 14 - tip.offsetWidth : x + 14;
      tip.style.left = `${Math.max(0, left)}px`;
      const above = root.getBoundingClientRect().top - figure.getBoundingClientRect().top;
      tip.style.top = `${Math.max(0, above + y - tip.offsetHeight / 2)}px`;
    }

    function nearest(event) {
      const box = root.getBoundingClientRect();
      const [x, y] = [event.clientX - box.left, event.clientY - box.top].map((v) => (v * width) / box.width);
      let best = null;
      let least = Infinity;
      for (const mark of drawn.marks) {
        const distance = ((mark.x ?? x) - x) ** 2 + (mark.y - y) ** 2;
        if (distance < least) [best, least] = [mark.i, distance];
      }
      return best;
    }

    function step(key) {
      const { places } = drawn;
      const here = places.indexOf(chosen);
      const to = { ArrowRight: here + 1, ArrowDown: here + 1, ArrowLeft: here - 1, ArrowUp: here - 1, Home: 0, End: places.length - 1 };
      return key in to ? places[Math.min(Math.max(to[key], 0), places.length - 1)] ?? null : undefined;
    }

    function draw(room = figure.clientWidth) {
      if (room === width || room === 0) return;
      width = room;
      root.replaceChildren();
      drawn = { chart: drawChart, ridges: drawRidges, heat: drawHeat }[data.kind](root, data, width);
      choose(null);
    }

    draw();
    new ResizeObserver(() => requestAnimationFrame(() => draw())).observe(figure);
    window.addEventListener("beforeprint", () => draw(PRINTED));
    window.addEventListener("afterprint", () => draw());
    root.addEventListener("pointermove", (event) => choose(nearest(event)));
    root.addEventListener("pointerdown", (event) => choose(nearest(event)));
    root.addEventListener("pointerleave", () => choose(null));
    root.addEventListener("blur", () => choose(null));
    root.addEventListener("keydown", (event) => {
      const to = event.key === "Escape" ? null : step(event.key);
      if (to === undefined) return;
      event.preventDefault();
      choose(to);
    });
  }

  document.querySelectorAll("figure").forEach(show);
}
