// What this server has, and which of it is chosen.

import { getJson } from "./api.js";
import { byId, element } from "./dom.js";

let cards = [];

export const chosenModel = () => cards.find((card) => card.id === byId("model").value);
export const chosenLanguage = () => byId("language").value;
export const wantsTranslation = () => byId("translate").checked && !byId("translate").disabled;
export const listedModels = () => cards;

export async function loadModels() {
  cards = (await getJson("/v1/models")).data;
  const speech = offered(cards.filter((card) => card.task === "transcription"));
  fill(byId("model"), speech.map((card) => [card.id, labelOf(card)]));
  const chat = cards.filter((card) => card.task === "chat" && card.id === card.root);
  fill(byId("chat-model"), chat.map(({ id }) => [id, id]));
  byId("model").onchange = allowTranslation;
  allowTranslation();
}

// Of each model's names the one that can most, and one that tells speakers apart: aliases would only repeat them.
function offered(speech) {
  const roots = [...new Set(speech.map((card) => card.root))];
  return roots.flatMap((root) => {
    const names = speech.filter((card) => card.root === root);
    const plain = names.find((card) => card.family === "whisper") ?? names.find((card) => card.family !== "diarize");
    return [plain, names.find((card) => card.family === "diarize")].filter(Boolean);
  });
}

const labelOf = (card) => (card.family === "diarize" ? `${card.root} with speakers` : card.root);

function fill(select, choices) {
  const before = select.value;
  select.replaceChildren(...choices.map(([value, text]) => element("option", { value, textContent: text })));
  if (choices.some(([value]) => value === before)) select.value = before;
  select.disabled = choices.length === 0;
}

function allowTranslation() {
  const card = chosenModel();
  byId("translate").disabled = !(card?.family === "whisper" && card.tasks.includes("translate"));
}
