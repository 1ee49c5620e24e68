// The key, where the server wants one. It is kept for this tab alone, and sent to this server alone.

import { byId } from "./dom.js";

const PLACE = "auricle-key";
const CHARACTERS = /^[\x21-\x7e]+$/; // of others no header can be made

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
    const key = byId("key").value.trim();
    if (!CHARACTERS.test(key)) return refuse();
    sessionStorage.setItem(PLACE, key);
    byId("key").value = "";
    byId("key-form").hidden = true;
    byId("recording-title").focus();
    onKey();
  });
  byId("key").addEventListener("input", () => byId("key").setCustomValidity(""));
}

function refuse() {
  byId("key").setCustomValidity("A key has only letters, digits and signs of ASCII, and no spaces.");
  byId("key").reportValidity();
}
