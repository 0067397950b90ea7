// Keeps the page up to date: fetches the pieces every two seconds and changes what differs, and nothing else, so that
// focus, scrolling, selections and opened tables stay as they are. All texts arrive escaped from the server.
"use strict";

const EVERY = 2000;          // milliseconds between two looks
const SLOWEST = 15000;       // while the dashboard does not answer
const WAIT = 10000;          // for one answer
const run = new URLSearchParams(location.search).get("run") || "";
let etag = "";
let offset = 0;              // seconds that the coordinator's clock is ahead of this one
let answered = Date.now() / 1000;
let failures = 0;
let timer = 0;
let said = "";

// The token is kept in a cookie by now; it need not stay in the address, the history or a screenshot.
history.replaceState(null, "", run ? "/?run=" + encodeURIComponent(run) : "/");

async function look() {
  clearTimeout(timer);
  try {
    const headers = etag ? { "If-None-Match": etag } : {};
    const reply = await fetch("/pieces.json?run=" + encodeURIComponent(run),
      { headers, cache: "no-store", credentials: "same-origin", signal: AbortSignal.timeout(WAIT) });
    if (reply.status === 401 || reply.status === 403) return lost("This page has expired: the dashboard was started again. " +
      "Open the address that it printed.");
    if (reply.status !== 304 && !reply.ok) throw new Error("status " + reply.status);
    const now = parseFloat(reply.headers.get("X-Now"));
    if (isFinite(now)) offset = now - Date.now() / 1000;
    if (reply.status !== 304) {
      show(await reply.json());
      etag = reply.headers.get("ETag") || "";
    }
    failures = 0;
    answered = Date.now() / 1000;
    found();
  } catch (error) {
    failures += 1;
    if (failures > 1) lost("The dashboard does not answer: it was stopped, or the connection is gone. What is shown is " +
      "old. Start it again with: sarco-coordinator dashboard HOME");
  }
  tick();
  timer = setTimeout(look, document.hidden ? SLOWEST : Math.min(SLOWEST, EVERY * (1 + failures)));
}

function show(content) {
  document.title = content.title;
  const grid = document.querySelector("#parts .scroll");
  const atEnd = !grid || grid.scrollLeft + grid.clientWidth >= grid.scrollWidth - 4;
  if (content.say !== said) {
    said = content.say;
    document.getElementById("status").textContent = said;
  }
  for (const [name, text] of Object.entries(content.pieces)) {
    const place = document.getElementById(name);
    if (!place) continue;
    const wanted = document.createElement("template");
    wanted.innerHTML = text;
    change(place, wanted.content);
  }
  if (atEnd) newest();
}

// The newest rounds are what is looked for, where the grid is wider than the screen.
function newest() {
  const grid = document.querySelector("#parts .scroll");
  if (grid) grid.scrollLeft = grid.scrollWidth;
}

// Makes the children of `here` those of `wanted`, node by node; what has a data-key is found by it and never moved.
function change(here, wanted) {
  const keyed = new Map([...here.children].filter(old => old.dataset.key).map(old => [old.dataset.key, old]));
  let at = here.firstChild;
  for (const fresh of [...wanted.childNodes]) {
    const key = fresh.dataset?.key, old = key ? keyed.get(key) : at;
    while (key && old && at && at !== old) {
      const next = at.nextSibling;
      at.remove();
      at = next;
    }
    if (!old || old !== at || old.nodeName !== fresh.nodeName || old.dataset?.key !== key) {
      here.insertBefore(fresh, at);
      continue;
    }
    at = at.nextSibling;
    if (old.nodeType !== Node.ELEMENT_NODE) {
      if (old.nodeValue !== fresh.nodeValue) old.nodeValue = fresh.nodeValue;
      continue;
    }
    attributes(old, fresh);
    if (old.nodeName !== "TIME") change(old, fresh);   // a clock's text is the browser's own affair
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

function attributes(old, fresh) {
  for (const { name } of [...old.attributes])
    if (!fresh.hasAttribute(name) && !(name === "open" && old.nodeName === "DETAILS")) old.removeAttribute(name);
  for (const { name, value } of fresh.attributes)
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
}

function lost(words) {
  const place = document.getElementById("alone");
  if (place.textContent !== words) place.textContent = words;
  place.hidden = false;
  document.body.classList.add("old");
}

function found() {
  document.getElementById("alone").hidden = true;
  document.body.classList.remove("old");
}

function long(seconds) {
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) return s + " s";
  if (s < 3600) return Math.floor(s / 60) + " min " + (s < 600 ? (s % 60) + " s" : "");
  if (s < 86400) return Math.floor(s / 3600) + " h " + Math.floor(s % 3600 / 60) + " min";
  return Math.floor(s / 86400) + " d " + Math.floor(s % 86400 / 3600) + " h";
}

function at(seconds, now) {
  const day = new Date(seconds * 1000), today = new Date(now * 1000);
  const hour = day.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hour12: false });
  const same = day.toDateString() === today.toDateString();
  return same ? hour : day.toLocaleDateString([], { day: "numeric", month: "short" }) + ", " + hour;
}

// Writes every time of the page anew, once a second.
function tick() {
  const now = Date.now() / 1000 + offset;
  for (const time of document.querySelectorAll("time")) {
    const { at: moment, since, until } = time.dataset;
    let words = "";
    if (moment) words = at(+moment, now);
    else if (since) words = now - since < 2 ? "just now" : long(now - since).trim() + " ago";
    else if (until) words = +until > now ? long(until - now).trim() : "over since " + long(now - until).trim();
    if (time.textContent !== words) time.textContent = words;
    const exact = new Date((moment || since || until) * 1000).toLocaleString([], { hour12: false });
    if (time.title !== exact) time.title = exact;
  }
  const age = Date.now() / 1000 - answered;
  const words = age < 4 ? new Date().toLocaleTimeString([], { hour12: false }) : long(age).trim() + " ago";
  const place = document.getElementById("updated");
  if (place.textContent !== words) place.textContent = words;
}

document.addEventListener("visibilitychange", () => { if (!document.hidden) look(); });
setInterval(tick, 1000);
newest();
look();
