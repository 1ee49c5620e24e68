// Small helpers. Data becomes text nodes and properties, never markup.

export const byId = (id) => document.getElementById(id);

// A text that stays is not set again: a screen reader would read it again.
export function setText(id, text) {
  if (byId(id).textContent !== text) byId(id).textContent = text;
}

export function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

// What is disabled loses the focus, and gets it back here where nobody else has it by then.
export async function whileDisabled(button, work) {
  const hadFocus = document.activeElement === button;
  button.disabled = true;
  try {
    await work();
  } finally {
    button.disabled = false;
    if (hadFocus && [document.body, button].includes(document.activeElement)) button.focus();
  }
}

export function formatTime(seconds) {
  const whole = Math.floor(seconds);
  const hours = Math.floor(whole / 3600);
  const minutes = String(Math.floor(whole / 60) % 60).padStart(hours ? 2 : 1, "0");
  const rest = `${minutes}:${String(whole % 60).padStart(2, "0")}`;
  return hours ? `${hours}:${rest}` : rest;
}

export function formatBytes(bytes) {
  const isSmall = bytes < 1e6;
  return `${(bytes / (isSmall ? 1e3 : 1e6)).toFixed(isSmall ? 0 : 1)} ${isSmall ? "kB" : "MB"}`;
}

// So that nothing is lost by a careless click: browsers ask in words of their own.
export function askBeforeLeaving(isNeeded) {
  addEventListener("beforeunload", (event) => isNeeded() && event.preventDefault());
}

export function save(name, text, type = "text/plain") {
  const url = URL.createObjectURL(new Blob([text], { type }));
  element("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
