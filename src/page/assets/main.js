// The page as a whole: its two views, its settings, and the snapshots that go to both.

import { byId, setAttribute, setHidden, setText } from "./dom.js";
import { clock } from "./format.js";
import { choose, current, t, translate } from "./language.js";
import { Live } from "./live.js";
import { PipelineView } from "./pipeline.js";
import { read, write } from "./settings.js";
import { ShopView } from "./shop.js";

const VIEWS = ["shop", "pipeline"];
const views = { shop: new ShopView(), pipeline: new PipelineView() };
/** The newest snapshots; undefined until the first has come. */
const snapshots = { shop: undefined, pipeline: undefined };
let updated = null;
let view = null;

const live = new Live(heard, changed);

function heard(kind, snapshot) {
  snapshots[kind] = snapshot;
  updated = new Date();
  if (kind === "shop") place();
  show(kind);
  said();
}

/** Only the view that is open is brought up to date; the other one when it is opened. */
function show(kind) {
  if (kind !== view || snapshots[kind] === undefined) return;
  views[kind].show(snapshots[kind]);
}

/** The view that the address asks for; without one the shop's, if the folder is a shop's. */
function place() {
  const asked = location.hash.slice(1);
  const shopless = snapshots.shop === null;
  setHidden(byId("to-shop"), shopless);
  if (VIEWS.includes(asked)) open(asked);
  else if (snapshots.shop !== undefined) open(shopless ? "pipeline" : "shop");
}

function open(name) {
  if (name === view) return;
  view = name;
  setHidden(byId("loading"), true);
  for (const other of VIEWS) {
    setHidden(byId(`view-${other}`), other !== name);
    setAttribute(byId(`to-${other}`), "aria-current", other === name ? "page" : null);
  }
  title();
  show(name);
}

function title() {
  document.title = view ? `${t(`page.${view}`)} · Acequia` : "Acequia";
}

function changed(state) {
  const before = byId("live").dataset.state;
  setAttribute(byId("live"), "data-state", state);
  const banner = { gone: updated ? "live.gone.long" : "live.gone.never", refused: "live.refused.long" }[state];
  setHidden(byId("banner"), !banner);
  setText(byId("banner-text"), banner ? t(banner, { time: clock(updated) }) : "");
  if (!banner && (before === "gone" || before === "refused")) setText(byId("spoken"), t("live.back"));
  document.body.toggleAttribute("data-stale", Boolean(banner));
  said();
}

function said() {
  setText(byId("live-state"), t(`live.${live.state}`));
  setText(byId("live-time"), updated ? t("live.updated", { time: clock(updated) }) : t("live.never"));
}

function speak(language) {
  choose(language);
  translate();
  title();
  changed(live.state);
  redraw();
}

function redraw() {
  for (const name of VIEWS) views[name].rebuild();
  if (view) show(view);
}

function dress(theme) {
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  write("theme", theme === "system" ? null : theme);
  redraw();
}

const isAutomatic = () => byId("auto").getAttribute("aria-checked") === "true";

/** A page that nobody sees holds no stream: browsers allow a few to a server, and the server asks Redis for each. */
function seen() {
  if (isAutomatic() && document.hidden) live.stop();
  else if (isAutomatic()) live.start();
}

function settings() {
  for (const input of document.querySelectorAll("input[name=language]")) {
    input.checked = input.value === current();
    input.addEventListener("change", () => speak(input.value));
  }
  const theme = read("theme") ?? "system";
  for (const input of document.querySelectorAll("input[name=theme]")) {
    input.checked = input.value === theme;
    input.addEventListener("change", () => dress(input.value));
  }
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);

  byId("auto").addEventListener("click", () => {
    setAttribute(byId("auto"), "aria-checked", String(!isAutomatic()));
    if (isAutomatic()) live.start();
    else live.stop();
  });
  byId("refresh").addEventListener("click", async () => {
    if (await live.refresh()) setText(byId("spoken"), `${t("live.refreshed")}, ${clock(updated)}`);
  });
  byId("skip").addEventListener("click", (event) => {
    // The address names the view; the skip link must not change it.
    event.preventDefault();
    byId("content").focus();
  });
}

translate();
settings();
redraw();
place();
addEventListener("hashchange", () => {
  place();
  byId("content").focus({ preventScroll: true });
  scrollTo(0, 0);
});
document.addEventListener("visibilitychange", seen);
seen();
