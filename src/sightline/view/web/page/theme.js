/**
 * Light or dark as the system has it, until the button says otherwise.
 * @param {HTMLElement} button
 * @param {(dark: boolean) => void} onChange
 */
export function followTheme(button, onChange) {
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  /** @type {boolean | null} */
  let chosen = null;
  const apply = () => {
    const dark = chosen ?? system.matches;
    document.documentElement.dataset.theme = dark ? "dark" : "light";
    button.setAttribute("aria-pressed", String(dark));
    onChange(dark);
  };
  system.addEventListener("change", apply);
  button.addEventListener("click", () => {
    chosen = !(chosen ?? system.matches);
    apply();
  });
  apply();
}
