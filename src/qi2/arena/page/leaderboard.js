// The leaderboard: a table per suite and category, each rating with its interval and number of votes.
const SVG = "http://www.w3.org/2000/svg";
const SUITES = { t2i: "Text to image", edit: "Editing" };
const $ = (id) => document.getElementById(id);

export async function showBoard(ask) {
  let found;
  try {
    found = await ask("leaderboard");
  } catch (error) {
    $("board-message").textContent = error.message;
    $("table").replaceChildren();
    $("category").disabled = true;
    return;
  }
  const names = Object.keys(found.boards).sort((a, b) => (a.startsWith("t2i") ? 0 : 1) - (b.startsWith("t2i") ? 0 : 1));
  const before = $("category").value;
  $("category").replaceChildren(...names.map((name) => new Option(title(name), name, false, name === before)));
  $("category").disabled = names.length === 0;
  $("category").onchange = () => fill(found, $("category").value);
  fill(found, $("category").value);
}

function title(name) {
  const [suite, ...category] = name.split("/");
  return category.length ? `${SUITES[suite]}: ${category.join("/")}` : SUITES[suite];
}

function fill(found, name) {
  const ratings = found.boards[name];
  if (!ratings) {
    $("board-message").textContent = "No vote counts yet.";
    $("table").replaceChildren();
    return;
  }
  const notes = [`${ratings.votes} votes on ${ratings.prompts} ${ratings.prompts === 1 ? "prompt" : "prompts"}`];
  if (ratings.prompts < found.few_prompts) notes.push("few prompts: the intervals are rough");
  if (!ratings.connected) notes.push("some entrants have not met, not even through others: their ratings cannot be compared yet");
  $("board-message").textContent = notes.join(" · ");
  const ends = ratings.rows.flatMap((row) => [row.low ?? row.elo, row.high ?? row.elo]);
  const scale = { low: Math.min(...ends, 990), high: Math.max(...ends, 1010) };
  const table = document.createElement("table");
  table.append(line("th", ["#", "Entrant", "Elo", "95 % interval", "Votes"]), ...ratings.rows.map((row) => line("td", cells(row, scale))));
  $("table").replaceChildren(table);
}

function cells(row, scale) {
  const elo = document.createElement("span");
  const half = document.createElement("small");
  half.textContent = row.high === null ? " ± ?" : ` ± ${Math.round(row.high - row.elo)}`;
  elo.append(String(Math.round(row.elo)), half);
  return [String(row.rank), row.entrant, elo, bar(row, scale), String(row.votes)];
}

function line(kind, values) {
  const classes = ["n", "name", "n", "chart", "n"];
  const row = document.createElement("tr");
  values.forEach((value, i) => {
    const cell = document.createElement(kind);
    cell.className = classes[i];
    cell.append(value);
    row.append(cell);
  });
  return row;
}

function bar(row, { low, high }) {
  const at = (elo) => 4 + (192 * (elo - low)) / (high - low);
  const svg = shape("svg", { viewBox: "0 0 200 16", preserveAspectRatio: "none", role: "img" });
  svg.setAttribute("aria-label", row.low === null ? "unknown" : `${Math.round(row.low)} to ${Math.round(row.high)}`);
  svg.append(shape("line", { class: "middle", x1: at(1000), x2: at(1000), y1: 0, y2: 16 }));
  svg.append(shape("line", { class: "interval", x1: at(row.low ?? low), x2: at(row.high ?? high), y1: 8, y2: 8 }));
  svg.append(shape("line", { class: "value", x1: at(row.elo), x2: at(row.elo), y1: 2, y2: 14 }));
  return svg;
}

function shape(name, attributes) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  return node;
}
