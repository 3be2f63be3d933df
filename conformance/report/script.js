"use strict";
// The page is complete without this: it opens what a link leads to, and copies commands.
function openTarget() {
  const target = location.hash.length > 1 && document.getElementById(location.hash.slice(1));
  if (target && target.tagName === "DETAILS") { target.open = true; target.scrollIntoView(); }
}
addEventListener("hashchange", openTarget);
openTarget();
if (navigator.clipboard) {
  for (const block of document.querySelectorAll("pre.replay")) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "Copy";
    // What becomes of it is said, too, to those who do not see it.
    button.setAttribute("aria-live", "polite");
    button.addEventListener("click", () => navigator.clipboard.writeText(block.textContent).then(
      () => { button.textContent = "Copied"; }, () => { button.textContent = "Select and copy it"; }));
    block.before(button);
  }
}
