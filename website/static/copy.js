// A button at each block of code that copies what one would type: of a Python session without prompts and results.
const typed = (text) => {
  const lines = text.split("\n");
  if (!lines.some((line) => line.startsWith(">>> "))) return text.trimEnd() + "\n";
  const kept = lines.filter((line) => /^(>>>|\.\.\.)( |$)/.test(line));
  return kept.map((line) => line.slice(4)).join("\n") + "\n";
};

for (const block of document.querySelectorAll(".bd-article .highlight pre")) {
  const text = block.textContent ?? "";
  const button = document.createElement("button");
  button.className = "copy";
  button.type = "button";
  button.textContent = "Copy";
  button.setAttribute("aria-label", "Copy this code");
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(typed(text));
      button.textContent = "Copied";
    } catch {
      button.textContent = "Not allowed";
    }
    setTimeout(() => (button.textContent = "Copy"), 1500);
  });
  block.append(button);
}
