/**
 * Bytes of a base64 text.
 * @param {string} text
 * @returns {Uint8Array}
 */
export function decodeBase64(text) {
  const bytesOf = /** @type {any} */ (Uint8Array).fromBase64; // newer browsers
  if (typeof bytesOf === "function") return bytesOf.call(Uint8Array, text);
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = binary.charCodeAt(i);
  return bytes;
}
