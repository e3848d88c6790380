// The countdown to the idle deadline, and the live figures. Both only ask: what they fetch prolongs nothing.
"use strict";

const ASK_BELOW = 60; // seconds
const POLL_EVERY = 5; // seconds

const byId = (id) => document.getElementById(id);

// What the shop answers; null: it could not be reached this time.
async function ask(path, options) {
  try {
    const answer = await fetch(path, { cache: "no-store", ...options });
    return answer.ok ? await answer.json() : null;
  } catch {
    return null;
  }
}

if (byId("countdown")) {
  const dialog = byId("still-there");
  let end = Infinity; // when the session ends, by performance.now()

  async function poll() {
    const found = await ask("/remaining");
    if (!found) return;
    if (found.seconds === null) location.replace("/logged-out");
    else end = performance.now() + found.seconds * 1000;
    show();
  }

  function show() {
    if (end === Infinity) return;
    const seconds = Math.max(0, Math.round((end - performance.now()) / 1000));
    const text = `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
    byId("seconds").textContent = byId("last-seconds").textContent = text;
    byId("countdown").hidden = false;
    if (seconds < ASK_BELOW && !dialog.open) dialog.showModal();
    if (seconds >= ASK_BELOW && dialog.open) dialog.close(); // prolonged, here or in another tab
  }

  async function stay() {
    await ask("/stay", { method: "POST" });
    await poll();
  }

  byId("stay").addEventListener("click", stay);
  dialog.addEventListener("cancel", (event) => { // the Escape key: it closes once the session is prolonged
    event.preventDefault();
    stay();
  });
  addEventListener("pageshow", poll); // also when the browser brings the page back from memory
  setInterval(poll, POLL_EVERY * 1000);
  setInterval(show, 250);
}

if (byId("follow")) {
  setInterval(async () => {
    if (!byId("follow").checked) return;
    for (const [name, value] of Object.entries((await ask("/figures.json")) ?? {})) {
      const cell = document.querySelector(`[data-figure="${name}"]`);
      if (cell) cell.textContent = value.toLocaleString("en");
    }
  }, 1000);
}
