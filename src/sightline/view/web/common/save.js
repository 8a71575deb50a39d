/**
 * Let the user save something that the page made.
 * @param {string} name of the file
 * @param {Blob} blob
 */
export function saveAs(name, blob) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/**
 * A field of a CSV line. Spreadsheets take a field that begins like a formula for one: it gets a quote before it.
 * @param {string | number} value
 */
function csvField(value) {
  if (typeof value === "number") return Number.isNaN(value) ? "" : String(value);
  const text = /^[=+\-@\t\r]/.test(value) ? `'${value}` : value;
  return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/**
 * @param {(string | number)[][]} rows
 */
export function csvOf(rows) {
  return rows.map((row) => row.map(csvField).join(",")).join("\r\n") + "\r\n";
}

/**
 * Text inside XML.
 * @param {string} text
 */
export function xmlText(text) {
  // XML knows no control characters but these three.
  const clean = text.replace(/[^\t\n\r\u0020-\ud7ff\ue000-\uffff\u{10000}-\u{10ffff}]/gu, "\ufffd");
  return clean.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;");
}
