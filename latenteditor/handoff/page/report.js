"use strict";

/** Shows the share of a view, from its left edge, as it was before the edit. */
function slide(frame, share) {
  const percent = Math.round(100 * share);
  const input = frame.querySelector("input");
  frame.style.setProperty("--at", 100 * share);
  input.value = percent;
  input.setAttribute("aria-valuetext", `${percent} % before`);
}

for (const frame of document.querySelectorAll(".frame")) {
  const input = frame.querySelector("input");
  const follow = event => {
    const box = frame.getBoundingClientRect();
    slide(frame, Math.min(1, Math.max(0, (event.clientX - box.left) / box.width)));
  };
  input.addEventListener("input", () => slide(frame, input.value / 100));
  frame.addEventListener("pointerdown", event => {
    if (event.button !== 0) return;
    frame.setPointerCapture(event.pointerId);
    input.focus({ preventScroll: true });
    event.preventDefault();
    follow(event);
  });
  frame.addEventListener("pointermove", event => {
    if (frame.hasPointerCapture(event.pointerId)) follow(event);
  });
  // Browsers restore what a field held before the page was loaded again.
  slide(frame, input.value / 100);
}

for (const box of document.querySelectorAll(".switch input")) {
  const mask = box.closest(".pair").querySelector(".mask");
  const show = () => { mask.hidden = !box.checked; };
  box.addEventListener("change", show);
  show();
}

/** Copies a text; a browser that keeps its clipboard from files is asked the old way. */
async function copy(code) {
  try {
    await navigator.clipboard.writeText(code.textContent);
    return true;
  } catch {
    getSelection().selectAllChildren(code);
    return document.execCommand("copy");
  }
}

for (const button of document.querySelectorAll(".command button")) {
  button.addEventListener("click", async () => {
    const copied = await copy(button.closest(".command").querySelector("code"));
    button.textContent = copied ? "Copied" : "Press Ctrl+C";
    document.querySelector("[role=status]").textContent = button.textContent;
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });
}
