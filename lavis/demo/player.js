// Kept once Gradio has put every part of the page up, and says so by its event of loading.
let pageIsThere;
const pageStands = new Promise((kept) => {
  pageIsThere = kept;
});

// Whatever carries `data-seek` moves the player; timelines move it by click, by touch and by arrow keys, and follow it.
(() => {
  const player = () => document.querySelector(".stage video");

  function seek(seconds) {
    const video = player();
    if (!video || video.hidden) return;
    video.pause();
    video.currentTime = seconds;
    const box = video.getBoundingClientRect();
    if (box.top < 0 || box.bottom > window.innerHeight) video.scrollIntoView({ block: "center" });
    follow(seconds);
  }

  function follow(seconds) {
    for (const track of document.querySelectorAll(".timeline .track")) {
      const [start, end] = [Number(track.dataset.start), Number(track.dataset.end)];
      const share = Math.min(Math.max((seconds - start) / (end - start), 0), 1);
      track.style.setProperty("--at", `${share * 100}%`);
      track.setAttribute("aria-valuenow", seconds.toFixed(2));
      track.setAttribute("aria-valuetext", `${seconds.toFixed(1)} s`);
    }
  }

  function stepped(track, key) {
    const times = track.dataset.times.split(" ").map(Number);
    const now = Number(track.getAttribute("aria-valuenow"));
    if (key === "Home") return times[0];
    if (key === "End") return times[times.length - 1];
    if (key === "ArrowRight" || key === "ArrowUp") return times.find((time) => time > now + 0.02);
    if (key === "ArrowLeft" || key === "ArrowDown") return times.filter((time) => time < now - 0.02).pop();
    return undefined;
  }

  // Browsers let only pages of this machine, or with https, write to the clipboard; elsewhere the link is selected.
  async function copy(button) {
    const field = button.parentElement.querySelector("input");
    field.value = new URL(button.dataset.copy, location.origin + location.pathname).href;
    field.hidden = false;
    field.select();
    try {
      await navigator.clipboard.writeText(field.value);
      button.textContent = "Copied";
    } catch {
      button.textContent = "Copy it from the field";
    }
  }

  // Where the player stands, as the start or the end of the part to watch.
  window.playerTime = () => (player() ? String(Math.round(player().currentTime * 100) / 100) : "");

  // The form is long: a new result comes into view by itself.
  window.showResult = (id) => {
    const result = document.querySelector(`#${id}-history nav, #${id} .result`);
    if (result) result.scrollIntoView({ block: "start" });
    if (player()) follow(player().currentTime);
    return [];
  };

  document.addEventListener("click", (event) => {
    const copied = event.target.closest("[data-copy]");
    if (copied) return copy(copied);
    const button = event.target.closest("[data-seek]");
    if (button) return seek(Number(button.dataset.seek));
    const track = event.target.closest(".timeline .track");
    if (track) {
      const box = track.getBoundingClientRect();
      const [start, end] = [Number(track.dataset.start), Number(track.dataset.end)];
      seek(start + ((event.clientX - box.left) / box.width) * (end - start));
    }
  });
  document.addEventListener("keydown", (event) => {
    const track = event.target.closest?.(".timeline .track");
    const time = track && stepped(track, event.key);
    if (time === undefined || time === null) return;
    event.preventDefault();
    seek(time);
  });
  // Media events do not bubble, but they can be caught on the way down.
  for (const name of ["timeupdate", "seeked"]) {
    document.addEventListener(name, (event) => event.target === player() && follow(player().currentTime), true);
  }
})();
