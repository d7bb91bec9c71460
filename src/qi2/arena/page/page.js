// Voting: one pair at a time, by keyboard or touch. A vote stays in this browser's storage until the server has said that it has it.
import { showBoard } from "./leaderboard.js";
import { asking, Kept } from "./send.js";

const KEYS = { ArrowLeft: "left", ArrowRight: "right", ArrowDown: "tie", "=": "tie", s: "skip", S: "skip" };
const LEAST_MS = 250; // a key that is still down, or a second tap, is no judgement of the next pair
const $ = (id) => document.getElementById(id);
const ask = asking({ unreachable: "Your vote is kept." });
const vote = new Kept("qi2-arena-vote", "vote", ask);
let pair = null;
let shownAt = 0;

async function show(next) {
  const images = [[$("left"), next.left], [$("right"), next.right]];
  const sources = next.sources.map((name, i) => sourceButton(name, next.sources.length > 1 ? `Source ${i + 1}` : "Source"));
  $("asked").textContent = next.suite === "edit" ? "Which picture does this to the source, and nothing else?" : "Which picture is the better one for this?";
  $("prompt").textContent = next.prompt;
  $("prompt").className = "";
  $("question").className = next.suite;
  $("sources").replaceChildren(...sources);
  for (const [image, name] of images) image.src = `picture/${name}`;
  $("question").hidden = false;
  const all = [...images.map(([image]) => image), ...sources.map((button) => button.firstChild)];
  await Promise.all(all.map((image) => image.decode().then(() => fit(image)))); // both appear at the same time
}

function sourceButton(name, label) {
  const button = document.createElement("button");
  const image = document.createElement("img");
  button.type = "button";
  button.setAttribute("aria-label", `Enlarge ${label.toLowerCase()}`);
  Object.assign(image, { src: `picture/${name}`, alt: label });
  button.append(image);
  button.onclick = () => enlarge(image);
  return button;
}

// A picture fills its place in its own proportions; one of a few pixels is enlarged as it is, not blurred.
function fit(image) {
  image.classList.toggle("small", image.naturalWidth <= 128);
  image.style.setProperty("--ratio", image.naturalWidth / image.naturalHeight);
}

function enlarge(image) {
  const large = $("large").querySelector("img");
  Object.assign(large, { src: image.src, alt: image.alt, className: image.className });
  $("large").showModal();
}

function count({ votes, open_after }) {
  const left = open_after - votes;
  $("count").textContent = `${votes} ${votes === 1 ? "vote" : "votes"}` + (left > 0 ? ` · leaderboard after ${left} more` : "");
}

async function advance() {
  pair = null;
  $("vote").setAttribute("aria-busy", "true");
  $("again").hidden = true;
  try {
    const refusal = await vote.flush();
    if (refusal && refusal.status !== 409) console.warn(refusal.message);
    const next = await ask("pair");
    count(next);
    if (!next.ticket) return finish("You have seen every pair. Thank you!");
    await show(next);
    pair = next;
    shownAt = performance.now();
    $("message").textContent = "";
    $("vote").setAttribute("aria-busy", "false");
    document.querySelectorAll(".chosen").forEach((button) => button.classList.remove("chosen"));
    if (!$("large").open) $("prompt").focus({ preventScroll: true });
  } catch (error) {
    $("message").textContent = error.again || error.status ? error.message : "A picture cannot be shown. If this stays, the arena has to be opened again.";
    $("again").hidden = false;
  }
}

function finish(text) {
  $("question").hidden = true;
  $("vote").setAttribute("aria-busy", "false");
  $("message").textContent = text;
}

function choose(choice) {
  if (!pair || performance.now() - shownAt < LEAST_MS) return;
  vote.put({ ticket: pair.ticket, choice });
  document.querySelector(`[data-choice=${choice}]`).classList.add("chosen");
  advance();
}

function view(name) {
  $("vote").hidden = name !== "vote";
  $("board").hidden = name !== "board";
  $("show-vote").setAttribute("aria-pressed", String(name === "vote"));
  $("show-board").setAttribute("aria-pressed", String(name === "board"));
  if (name === "board") showBoard(ask);
}

async function start() {
  const invitation = location.hash.slice(1);
  try {
    count(await ask("voter", { invitation }));
    if (invitation) history.replaceState(null, "", location.pathname); // not in a screenshot, not in the history
  } catch (error) {
    $("message").textContent = error.message;
    $("again").hidden = !error.again;
    $("again").onclick = () => location.reload();
    return;
  }
  $("again").onclick = advance;
  await advance();
}

document.addEventListener("keydown", (event) => {
  const choice = KEYS[event.key];
  if (!choice || event.repeat || event.ctrlKey || event.altKey || event.metaKey || $("vote").hidden || $("large").open) return;
  event.preventDefault();
  choose(choice);
});
document.querySelectorAll("[data-choice]").forEach((button) => (button.onclick = () => choose(button.dataset.choice)));
document.querySelectorAll(".enlarge").forEach((button) => (button.onclick = () => enlarge(button.firstChild)));
$("prompt").onclick = () => $("prompt").classList.toggle("whole");
$("large").onclick = () => $("large").close();
$("show-vote").onclick = () => view("vote");
$("show-board").onclick = () => view("board");
start();
