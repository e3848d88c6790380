// The countdown to the idle deadline, and the live figures. Both only ask: what they fetch prolongs nothing.
"use strict";

const ASK_BELOW = 60; // seconds
const POLL_EVERY = 5; // seconds

const byId = (id) => document.getElementById(id);

async function ask(path, options) {
  const answer = await fetch(path, { cache: "no-store", ...options });
  return answer.json();
}

if (byId("countdown")) {
  let end = Infinity; // when the session ends, by performance.now()

  async function poll() {
    const { seconds } = await ask("/remaining");
    if (seconds === null) location.assign("/login");
    else end = performance.now() + seconds * 1000;
  }

  function show() {
    if (end === Infinity) return;
    const seconds = Math.max(0, Math.round((end - performance.now()) / 1000));
    const text = `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
    byId("seconds").textContent = byId("last-seconds").textContent = text;
    byId("countdown").hidden = false;
    const dialog = byId("still-there");
    if (seconds < ASK_BELOW && !dialog.open) dialog.showModal();
    if (seconds >= ASK_BELOW && dialog.open) dialog.close(); // another tab was used meanwhile
  }

  byId("stay").addEventListener("click", async () => {
    await ask("/stay", { method: "POST" });
    byId("still-there").close();
    await poll();
  });
  poll();
  setInterval(poll, POLL_EVERY * 1000);
  setInterval(show, 250);
}

if (byId("follow")) {
  setInterval(async () => {
    if (!byId("follow").checked) return;
    for (const [name, value] of Object.entries(await ask("/figures.json"))) {
      const cell = document.querySelector(`[data-figure="${name}"]`);
      if (cell) cell.textContent = value.toLocaleString("en");
    }
  }, 1000);
}
