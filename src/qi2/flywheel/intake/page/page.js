// Feedback from a browser: what the form holds goes to the intake as JSON, with the token from the link. Sending again is harmless: the same is stored once.
import { asking } from "./send.js";

const $ = (id) => document.getElementById(id);
const token = location.hash.slice(1);
const MOST_BYTES = 12 << 20; // of one picture; the server has the same limit

function read(file) {
  return new Promise((done, failed) => {
    if (file.size > MOST_BYTES) return failed(new Error(`${file.name} is larger than ${MOST_BYTES >> 20} MiB.`));
    const reader = new FileReader();
    reader.onload = () => done(reader.result);
    reader.onerror = () => failed(new Error(`${file.name} cannot be read.`));
    reader.readAsDataURL(file);
  });
}

const base64 = (url) => url.slice(url.indexOf(",") + 1);
const chosen = (name) => document.querySelector(`[name=${name}]:checked`).value;

async function content() {
  const [image, ...references] = await Promise.all([$("image").files[0], ...$("references").files].map(read));
  const said = { image: base64(image), prompt: $("prompt").value, verdict: chosen("verdict"), why: $("why").value, consent: chosen("consent") };
  if ($("subject").value) said.subject = $("subject").value;
  if (references.length) said.references = references.map(base64);
  return said;
}

const ask = asking({ unreachable: "Nothing is lost: send it again.", headers: { Authorization: `Bearer ${token}` }, patience: 60000 });

async function send() {
  try {
    return await ask("feedback", await content());
  } catch (error) {
    throw error.status === 401 ? new Error("Open the whole link that you were given: it holds the token.") : error;
  }
}

$("form").onsubmit = async (event) => {
  event.preventDefault();
  const button = $("form").querySelector("button");
  button.disabled = true;
  $("message").textContent = "Sending…";
  try {
    const { id, new: fresh } = await send();
    $("message").textContent = `${fresh ? "Stored" : "We had this already"}: thank you. To have it deleted, name ${$("subject").value || id}.`;
    if (fresh) $("form").reset();
    $("shown").hidden = fresh;
  } catch (error) {
    $("message").textContent = error.message;
  }
  button.disabled = false;
};

$("image").onchange = async () => {
  const file = $("image").files[0];
  $("shown").hidden = !file;
  try {
    if (file) Object.assign($("shown"), { src: await read(file), alt: "The chosen picture" });
  } catch (error) {
    $("shown").hidden = true;
    $("message").textContent = error.message;
  }
};
