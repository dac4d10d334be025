// Files that are too large or of another kind are refused before they are sent, with a message: Gradio's button would
// say nothing. The tag of this script has data-most-bytes and data-endings (".png,.jpg"); the server checks both again.
(() => {
  const { mostBytes, endings } = document.currentScript.dataset, known = endings.split(",");

  const reason = file => {
    const name = file.name.toLowerCase();
    if (!known.some(one => name.endsWith(one))) return `Expected a picture (${known.join(", ")}), got ${file.name}.`;
    if (file.size > mostBytes) return `Expected a file of ${mostBytes / 1e6} MB at most, got ${(file.size / 1e6).toFixed(1)} MB.`;
    return null;
  };

  const say = text => {
    document.querySelector(".kyvo-notice")?.remove();
    const notice = document.body.appendChild(document.createElement("div"));
    notice.className = "kyvo-notice";
    notice.setAttribute("role", "alert");
    notice.textContent = text;
    notice.addEventListener("click", () => notice.remove());
    setTimeout(() => notice.remove(), 10000);
  };

  document.addEventListener("change", event => {
    if (event.target.type !== "file") return;
    const wrong = Array.from(event.target.files, reason).find(Boolean);
    if (!wrong) return;
    event.stopImmediatePropagation();
    event.target.value = "";
    say(wrong);
  }, true);
})();
