import { createAnswerer } from "./answerer.js";

// What a worker of the page runs: messages in, answers out.
const answer = createAnswerer((message, transfer) => self.postMessage(message, { transfer: transfer ?? [] }));
self.onmessage = (event) => answer(event.data);
