// Review: one candidate at a time, by keyboard or touch. A decision stays in this browser's storage until the server has said that it has it.
// Whatever comes from the server is put in as text, never as markup.
import { asking, Kept } from "./send.js";

const KEYS = { a: "accept", e: "edit", r: "reject", u: "undo", ArrowLeft: "previous", ArrowRight: "following" };
const LEAST_MS = 250; // a key that is still down, or a second tap, is no decision on the next candidate
const $ = (id) => document.getElementById(id);
const ask = asking({ unreachable: "Your decision is kept." });
const decision = new Kept("qi2-review-decision", "decide", ask);
let shown = null;
let shownAt = 0;

function element(name, text, className) {
  const node = document.createElement(name);
  if (text !== undefined) node.textContent = text;
  if (className) node.className = className;
  return node;
}

function picture(name, label, className) {
  const [figure, button, image] = [element("figure", undefined, className), element("button"), element("img")];
  Object.assign(image, { src: `picture/${name}`, alt: label });
  image.decode().then(() => image.classList.toggle("small", image.naturalWidth <= 128), () => (image.alt = `${label} cannot be shown`));
  button.type = "button";
  button.setAttribute("aria-label", `Enlarge ${label.toLowerCase()}`);
  button.append(image);
  button.onclick = () => enlarge(image);
  figure.append(element("figcaption", label), button);
  return figure;
}

function enlarge(image) {
  Object.assign($("large").querySelector("img"), { src: image.src, alt: image.alt, className: image.className });
  $("large").showModal();
}

function progress({ total, left, accepted, edited, rejected, mode }) {
  const done = Object.entries({ accepted, edited, rejected }).filter(([, count]) => count);
  $("progress").textContent = [`${left} of ${total} to look at`, ...done.map(([name, count]) => `${count} ${name}`)].join(" · ") + (mode === "person" ? "" : ` · mode ${mode}`);
  Object.assign($("bar"), { max: Math.max(total, 1), value: accepted + edited + rejected });
}

function show(next) {
  const edit = next.task === "ti2i";
  const many = next.references.length > 1;
  $("candidate").className = edit ? "edited" : "";
  const references = next.references.map((name, i) => picture(name, many ? `Reference ${i + 1}` : "Reference", "reference"));
  $("pictures").replaceChildren(...references, picture(next.target, edit ? "Result" : "Picture", "target"));
  $("asked").textContent = edit ? "Does the result follow this instruction, and leave the rest alone?" : "Does the picture show this, and is it good enough to learn from?";
  $("prompt").textContent = next.prompt;
  const checks = Object.entries(next.checks).map(([name, right]) => element("li", `${name} ${right ? "✓" : "✗"}`, right ? "" : "wrong"));
  $("checks").replaceChildren(...(checks.length ? checks : [element("li", "no exact truth is known: look closely", "none")]));
  $("origin").replaceChildren(...Object.entries(next.origin).flatMap(([name, value]) => [element("dt", name), element("dd", said(value))]));
  neighbours(next.neighbours);
  editing(false);
  $("candidate").hidden = false;
  $("choices").hidden = false;
}

function said(value) {
  const text = typeof value === "string" ? value : JSON.stringify(value);
  return text.replace(/[0-9a-f]{64}/g, (hash) => `${hash.slice(0, 12)}…`);
}

function neighbours(found) {
  const [summary, list] = $("near").children;
  $("near").hidden = !found.length;
  summary.textContent = `${found.length} nearest in the training data`;
  list.replaceChildren(...found.map((one) => {
    const row = element("li");
    const near = typeof one.similarity === "number" ? one.similarity.toFixed(3) : "";
    const image = element("img");
    if (one.picture) Object.assign(image, { src: `picture/${one.picture}`, alt: "", loading: "lazy" });
    row.append(element("span", near), one.picture ? image : element("span", said(one.id ?? "")), element("q", said(one.caption ?? "")));
    return row;
  }));
}

function editing(on) {
  $("editing").hidden = !on;
  $("prompt").hidden = on;
  $("choices").hidden = on; // "Accept" there would be of the old prompt
  if (!on) return;
  $("text").value = shown.prompt;
  $("text").focus();
}

async function turn(fetching) {
  const before = shown;
  shown = null;
  $("review").setAttribute("aria-busy", "true");
  $("again").hidden = true;
  try {
    const told = (await decision.flush())?.message ?? "";
    const next = await fetching(before);
    progress(next);
    if (!next.ticket) return finish(told);
    show(next);
    shown = next;
    shownAt = performance.now();
    $("message").textContent = told;
    $("review").setAttribute("aria-busy", "false");
    document.querySelectorAll(".chosen").forEach((button) => button.classList.remove("chosen"));
    if (!$("large").open) $("prompt").focus({ preventScroll: true });
  } catch (error) {
    if (error.status === 404) { // nothing to undo: stay where we are
      shown = before;
      if (!before) return finish(error.message);
      $("review").setAttribute("aria-busy", "false");
    }
    $("message").textContent = error.message;
    $("again").hidden = !error.again;
  }
}

function finish(told) {
  $("candidate").hidden = true;
  $("review").setAttribute("aria-busy", "false");
  document.querySelectorAll(".chosen").forEach((button) => button.classList.remove("chosen"));
  document.querySelectorAll("[data-act]").forEach((button) => (button.hidden = button.dataset.act !== "undo"));
  $("choices").hidden = false;
  $("message").textContent = told || "Everything is decided. Thank you!";
}

function decide(verdict, prompt) {
  const after = shown.id;
  decision.put({ ticket: shown.ticket, verdict, prompt }); // JSON leaves out a prompt that is undefined
  document.querySelector(`[data-act=${verdict}]`).classList.add("chosen");
  turn(() => ask("step", { after, step: 1 }));
}

function act(name) {
  document.querySelectorAll("[data-act]").forEach((button) => (button.hidden = false));
  if (name === "undo") return turn(() => ask("undo", {}));
  if (!shown || performance.now() - shownAt < LEAST_MS) return;
  if (name === "edit") editing(true);
  else if (name === "previous" || name === "following") turn((before) => ask("step", { after: before.id, step: name === "following" ? 1 : -1 }));
  else decide(name);
}

function save() {
  const text = $("text").value.trim();
  if (!text) return;
  if (text === shown.prompt) decide("accept");
  else decide("edit", text);
}

document.addEventListener("keydown", (event) => {
  if (!$("editing").hidden) {
    if (event.key === "Escape") editing(false);
    else if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) save();
    else return;
    return event.preventDefault();
  }
  const name = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!name || event.repeat || event.ctrlKey || event.altKey || event.metaKey || $("large").open) return;
  event.preventDefault();
  act(name);
});
document.querySelectorAll("[data-act]").forEach((button) => (button.onclick = () => act(button.dataset.act)));
$("editing").onsubmit = (event) => {
  event.preventDefault();
  save();
};
$("cancel").onclick = () => editing(false);
$("large").onclick = () => $("large").close();

async function start() {
  const invitation = location.hash.slice(1);
  $("again").onclick = () => location.reload();
  try {
    progress(await ask("visitor", { invitation }));
    if (invitation) history.replaceState(null, "", location.pathname); // not in a screenshot, not in the history
  } catch (error) {
    $("message").textContent = error.message;
    $("again").hidden = !error.again;
    return;
  }
  $("again").onclick = () => turn(() => ask("next"));
  await turn(() => ask("next"));
}

start();
