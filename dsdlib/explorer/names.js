// Runs once the explorer's style sheet is in the page. ipywidgets gives the handles of its sliders no name and the number
// of the option as their value; here they get the label and the text beside them, for screen readers.
const page = this.closest(".dsd");
function describe() {
  for (const slider of page.querySelectorAll(".widget-slider")) {
    const [handle, label, readout] = ["handle", "label", "readout"].map((part) => slider.querySelector(`[class*=${part}]`));
    if (!handle) continue;
    handle.setAttribute("aria-label", label.textContent);
    handle.setAttribute("aria-valuetext", readout.textContent);
    readout.contentEditable = "false"; // what is typed there has no effect on a slider of options
  }
  for (const said of page.querySelectorAll(".dsd-live .widget-html-content")) said.setAttribute("aria-live", "polite");
}
const changes = { childList: true, subtree: true, attributes: true, attributeFilter: ["aria-valuenow"] };
new MutationObserver(describe).observe(page, changes);
describe();
