// The video of the page: upload it, play it. `props.value` is {url, name, facts} and what Python finds the file by:
// {path} for an upload, {clip} for a shipped clip; `replaces` says whether another video was there before.
// Where the browser cannot play it, Python makes a `preview` to play, and a `note` that says what it is.
const part = (name) => element.querySelector(name);
const video = part("video");
const input = part("input");
const drop = part(".drop");
const fail = part(".field-error");

let unplayable = "";
let latest = props.value || {};

// Once the file was checked, which fills in the facts.
function askForPreview() {
  const value = props.value || {};
  if (unplayable && unplayable === value.url && value.facts && !value.note) trigger("unplayable");
}

function show() {
  const value = props.value || {};
  const present = Boolean(value.url);
  const played = value.preview || value.url || "";
  if (video.dataset.url !== played) {
    video.dataset.url = played;
    if (present) video.src = played;
    else video.removeAttribute("src");
    video.load();
  }
  video.hidden = !present;
  drop.hidden = present;
  part(".shelf").hidden = !present;
  part(".name").textContent = value.name || "";
  part(".facts").textContent = value.facts || "";
  if (unplayable !== value.url) unplayable = "";
  part(".unplayable").textContent = value.note || (unplayable && "Your browser cannot play this format; a preview is made.");
  part(".unplayable").hidden = !part(".unplayable").textContent;
  part(".limits").textContent = props.limits || "";
}

function say(message) {
  fail.textContent = message;
  fail.hidden = !message;
}

function busy(on) {
  part(".busy").hidden = !on;
  input.disabled = on;
}

async function take(file) {
  say("");
  if (file.size > props.max_bytes) {
    say(`This file has ${Math.ceil(file.size / 1e6)} MB; at most ${props.max_bytes / 1e6} MB go.`);
    return;
  }
  busy(true);
  try {
    const stored = await upload(file);
    // Relative, as the shipped clips' are: the server takes no address from a page, its own neither.
    const url = `gradio_api/file=${stored.path.split("/").map(encodeURIComponent).join("/")}`;
    const replaces = Boolean((props.value || {}).url);
    props.value = { path: stored.path, url, name: file.name, facts: "", replaces };
    latest = props.value;
    show();
    trigger("taken");
  } catch {
    say("The upload did not work. The file may be too large, or the server is out of room.");
  } finally {
    busy(false);
    input.value = "";
  }
}

input.addEventListener("change", () => input.files[0] && take(input.files[0]));
part(".other").addEventListener("click", () => input.click());
video.addEventListener("error", () => {
  const value = props.value || {};
  if (!value.url || video.dataset.url !== value.url) return;
  unplayable = value.url;
  show();
  askForPreview();
});
for (const name of ["dragover", "dragleave", "drop"]) {
  element.addEventListener(name, (event) => {
    event.preventDefault();
    drop.classList.toggle("over", name === "dragover");
    if (name === "drop" && event.dataTransfer.files[0]) take(event.dataTransfer.files[0]);
  });
}
// A link to a result: what it asks is told to Python, which fills in the fields and asks. It waits for the whole page to
// stand: Gradio loses the event of a part that loads before the others, and what comes for a part that loads after.
const asked = new URLSearchParams(location.search);
if (asked.has("clip")) pageStands.then(() => trigger("linked", { link: location.search }));
watch("value", () => {
  const value = props.value || {};
  if (value.note && value.url !== latest.url) {
    props.value = latest; // a preview that comes later than another video
    return;
  }
  latest = value;
  say("");
  show();
  askForPreview();
});
show();
