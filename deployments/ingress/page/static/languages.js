// Whisper's languages, named in the reader's own.

import { byId, element } from "./dom.js";

const CODES =
  "en zh de es ru ko fr ja pt tr pl ca nl ar sv it id hi fi vi he uk el ms cs ro da hu ta no th ur hr bg lt la mi " +
  "ml cy sk te fa lv bn sr az sl kn et mk br eu is hy ne mn bs kk sq sw gl mr pa si km sn yo so af oc ka be tg sd " +
  "gu am yi lo uz fo ht ps tk nn mt sa lb my bo tl mg as tt haw ln ha ba jw su yue";

export function fillLanguages() {
  const names = new Intl.DisplayNames([document.documentElement.lang], { type: "language" });
  const nameOf = (code) => names.of(code === "jw" ? "jv" : code); // Whisper's own code of Javanese
  const options = CODES.split(" ").map((value) => element("option", { value, textContent: nameOf(value) }));
  options.sort((one, other) => one.textContent.localeCompare(other.textContent));
  byId("language").append(...options);
}
