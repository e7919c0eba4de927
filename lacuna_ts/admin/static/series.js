// Reading the Prometheus text format.

const LINE = /^([A-Za-z_:][A-Za-z0-9_:]*)(?:\{(.*)\})?\s+(\S+)(?:\s+[\d.]+)?(?:\s+#.*)?$/;
const LABEL = /([A-Za-z_][A-Za-z0-9_]*)="((?:[^"\\]|\\.)*)",?/g;
const ESCAPES = { "\\n": "\n", "\\\\": "\\", '\\"': '"' };

/** The series of an exposition: [{name, labels, value, haystack}], in its order. */
export function readSeries(exposition) {
  const series = [];
  for (const line of exposition.split("\n")) {
    if (line === "" || line.startsWith("#")) continue;
    const match = LINE.exec(line);
    if (!match) continue;
    const [, name, inside = "", value] = match;
    if (name.endsWith("_created")) continue;
    const labels = Object.create(null); // label names are data: none may be taken for a property of objects
    for (const [, key, escaped] of inside.matchAll(LABEL)) labels[key] = escaped.replace(/\\./g, (pair) => ESCAPES[pair] ?? pair);
    series.push({ name, labels, value: number(value), haystack: `${name} ${Object.entries(labels).flat().join(" ")}`.toLowerCase() });
  }
  return series;
}

function number(written) {
  if (written === "+Inf") return Infinity;
  if (written === "-Inf") return -Infinity;
  return Number(written);
}

/** The sum of all series of a name whose labels pass. */
export function total(series, name, passes = () => true) {
  return series.reduce((sum, one) => (one.name === name && passes(one.labels) ? sum + one.value : sum), 0);
}
