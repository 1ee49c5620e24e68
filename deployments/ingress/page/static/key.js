// The key, where the server wants one. It is kept for this tab alone, and sent to this server alone.

import { byId } from "./dom.js";

const PLACE = "auricle-key";

export const hasKey = () => sessionStorage.getItem(PLACE) !== null;

export function authorization() {
  return hasKey() ? { Authorization: `Bearer ${sessionStorage.getItem(PLACE)}` } : {};
}

export function askForKey(message) {
  byId("key-hint").textContent = `${message} It is kept until this tab is closed.`;
  const form = byId("key-form");
  if (!form.hidden) return;
  form.hidden = false;
  byId("key").focus();
}

// `onKey` is called with every new key.
export function startKey(onKey) {
  byId("key-form").addEventListener("submit", (event) => {
    event.preventDefault();
    sessionStorage.setItem(PLACE, byId("key").value.trim());
    byId("key").value = "";
    byId("key-form").hidden = true;
    byId("recording-title").focus();
    onKey();
  });
}
