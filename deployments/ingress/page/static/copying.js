// Buttons that copy a text, and say so.

import { byId, element } from "./dom.js";

const NOTICE_MS = 2_000;

export function offerCopy(button, textOf) {
  const name = button.textContent;
  const notice = (onButton, spoken) => {
    button.textContent = onButton;
    byId("copied").textContent = spoken;
  };
  button.addEventListener("click", async () => {
    try {
      await copy(textOf());
      notice("Copied", "Copied.");
    } catch {
      notice("Not copied", "It could not be copied.");
    }
    setTimeout(() => notice(name, ""), NOTICE_MS);
  });
}

// Browsers hand out the clipboard on https:// and localhost only.
async function copy(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const area = element("textarea", { value: text });
  document.body.append(area);
  area.select();
  const isCopied = document.execCommand("copy");
  area.remove();
  if (!isCopied) throw new Error("The browser refused.");
}
