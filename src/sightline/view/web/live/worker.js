import { createAnswerer } from "../compute/answerer.js";
import { LiveSession } from "./session.js";

// What the worker of a page that carries a model runs: messages in, answers out.
const answer = createAnswerer((message, transfer) => self.postMessage(message, { transfer: transfer ?? [] }), new LiveSession());
self.onmessage = (event) => answer(event.data);
