/** A notebook's cell with the explorer: a frame that reaches nothing, whose questions are passed on to the kernel. */

/** @param {{model: any, el: HTMLElement}} place as anywidget gives it @returns {() => void} what ends it */
function render({ model, el }) {
  // A model may be shown in several cells, and each gets all answers.
  const view = Math.random().toString(36).slice(2);
  const frame = document.createElement("iframe");
  frame.title = "Sightline: the explorer";
  frame.setAttribute("sandbox", "allow-scripts allow-downloads");
  Object.assign(frame.style, { width: "100%", height: "720px", border: "1px solid #8888", boxSizing: "border-box" });
  const note = document.createElement("p");
  note.textContent = "Waiting for the kernel: it answers when no cell runs.";
  el.append(note, frame);

  const fromFrame = (event) => {
    const said = event.data;
    if (event.source !== frame.contentWindow || (said?.kind !== "ask" && said?.kind !== "stop")) return;
    model.send({ ...said, view });
  };
  const fromKernel = (said, buffers) => {
    if (said.view !== view) return;
    if (said.kind === "page") {
      note.remove();
      frame.style.height = `${said.height}px`;
      frame.srcdoc = said.page;
    } else if (said.kind === "answer") {
      frame.contentWindow?.postMessage({ ...said, body: bytesOf(buffers?.[0]) }, "*");
    }
  };
  window.addEventListener("message", fromFrame);
  model.on("msg:custom", fromKernel);
  model.send({ kind: "open", view });
  return () => {
    window.removeEventListener("message", fromFrame);
    model.off("msg:custom", fromKernel);
    model.send({ kind: "close", view });
  };
}

/** The part of a message's memory that is this answer's. */
function bytesOf(buffer) {
  if (!buffer) return new ArrayBuffer(0);
  if (buffer instanceof ArrayBuffer) return buffer;
  return buffer.buffer.slice(buffer.byteOffset, buffer.byteOffset + buffer.byteLength);
}

export default { render };
