// Requests to this server, and its errors in its own words.

import { askForKey, authorization, hasKey } from "./key.js";

const UNREACHABLE = "The connection to the server was lost.";

export class ApiError extends Error {
  constructor(message, status = 0, code = null) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

export const isCancelled = (error) => error.name === "AbortError";

export async function getJson(path) {
  return (await send(path, { headers: authorization() })).json();
}

export function postJson(path, body, signal) {
  const headers = { ...authorization(), "Content-Type": "application/json" };
  return send(path, { method: "POST", headers, body: JSON.stringify(body), signal });
}

async function send(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    throw isCancelled(error) ? error : new ApiError(UNREACHABLE);
  }
  if (!response.ok) throw refused(response.status, await response.text());
  return response;
}

// A form by XMLHttpRequest, which tells how much of it was sent. `onText` gets all that has come until then.
export function postForm(path, fields, { signal, onSent, onText }) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", path);
    for (const [name, value] of Object.entries(authorization())) request.setRequestHeader(name, value);
    request.upload.onprogress = ({ loaded, total }) => onSent?.(loaded / total);
    request.onprogress = () => {
      if (request.status !== 200) return;
      try {
        onText?.(request.responseText);
      } catch (error) {
        reject(error); // an event handler's own would go nowhere
        request.abort();
      }
    };
    request.onload = () => {
      if (request.status === 200) resolve(request.responseText);
      else reject(refused(request.status, request.responseText));
    };
    request.onerror = () => reject(new ApiError(UNREACHABLE));
    request.onabort = () => reject(new DOMException("Cancelled", "AbortError"));
    signal.addEventListener("abort", () => request.abort());
    request.send(formOf(fields));
  });
}

function formOf(fields) {
  const form = new FormData();
  for (const [name, value] of fields) form.append(name, value);
  return form;
}

function refused(status, body) {
  const { message, code } = errorOf(body) ?? { message: `The server answered ${status}.`, code: null };
  if (status === 401) askForKey(hasKey() ? message : "This server wants an API key.");
  return new ApiError(message, status, code);
}

function errorOf(body) {
  try {
    return JSON.parse(body).error;
  } catch {
    return null; // what stands between may answer in its own words
  }
}
