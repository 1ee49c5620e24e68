// What was just done, as curl and Python. A key stands there by its name only.

import { offerCopy } from "./copying.js";
import { curlOfChat, curlOfForm, curlOfSession } from "./curl.js";
import { byId } from "./dom.js";
import { pythonOfChat, pythonOfForm, pythonOfSession } from "./python.js";

export function startSnippets() {
  for (const button of document.querySelectorAll("[data-copy]")) {
    offerCopy(button, () => byId(button.dataset.copy).textContent);
  }
}

export function showRequest(request) {
  show(curlOfForm(request), pythonOfForm(request));
}

// `file` is what its audio parts are made of.
export function showChat(body, file) {
  show(curlOfChat(body, file), pythonOfChat(body, file));
}

export function showSession(session) {
  show(curlOfSession(session), pythonOfSession(session));
}

function show(curl, python) {
  byId("curl").textContent = curl;
  byId("python").textContent = python;
  byId("code-hint").hidden = true;
  byId("code").hidden = false;
}
