// Outlines drawn on a picture. root: an empty element; data: {picture, width, height}; send(text) -> whether Python has it.
(root, data, send) => {
  const NEAR = 14; // px on the screen: a click this near to the first corner closes the outline
  const TALL = 640; // px on the screen, at most
  root.innerHTML = `
    <div class="stage" tabindex="0" role="application"
      aria-label="Draw outlines: arrow keys move the cross, Space sets a corner, Enter closes, Backspace undoes">
      <img alt="the composite" src="${data.picture}" draggable="false">
      <svg viewBox="0 0 ${data.width} ${data.height}" preserveAspectRatio="none"></svg>
    </div>
    <div class="bar"><button class="close">Close outline</button><button class="undo">Undo</button>
      <button class="clear">Clear</button><span class="status" role="status"></span></div>
    <details><summary>The outline as text</summary>
      <textarea readonly rows="3" aria-label="the outline as text"></textarea><button class="copy">Copy</button></details>`;
  const find = (name) => root.querySelector(name);
  for (const own of root.querySelectorAll("[tabindex], button, summary, textarea, a"))
    own.dataset.lmSuppressShortcuts = "true"; // while it has the focus, JupyterLab leaves the keys to it
  const stage = find(".stage"), svg = find("svg"), text = find("textarea");
  stage.style.maxWidth = `${Math.round(TALL * data.width / data.height)}px`;
  const closed = []; // polygons, each a list of [x, y] in px of the composite itself
  let corners = []; // of the outline that is still open
  let cross = null; // [x, y] of the keyboard's cursor
  let held = null; // [polygon, index] of the corner under a finger or a pressed mouse button
  let dropped = -Infinity; // when one was let go of, in ms
  const scale = () => data.width / svg.getBoundingClientRect().width;
  const place = (event) => {
    const box = svg.getBoundingClientRect();
    const at = [(event.clientX - box.left) / box.width * data.width, (event.clientY - box.top) / box.height * data.height];
    return at.map((v, i) => Math.round(10 * Math.min(Math.max(v, 0), [data.width, data.height][i])) / 10);
  };
  const draw = () => {
    const path = (points) => points.map((p) => p.join()).join(" ");
    const dot = (p, ring, i) => `<circle data-ring="${ring}" data-corner="${i}" cx="${p[0]}" cy="${p[1]}" r="${5 * scale()}"/>`;
    const rings = [...closed, corners];
    svg.innerHTML = closed.map((p) => `<polygon points="${path(p)}"/>`).join("") + `<polyline points="${path(corners)}"/>`
      + rings.map((ring, k) => ring.map((p, i) => dot(p, k, i)).join("")).join("")
      + (cross ? `<path d="M${cross[0] - 9 * scale()} ${cross[1]}h${18 * scale()}M${cross[0]} ${cross[1] - 9 * scale()}v${18 * scale()}"/>` : "");
    find(".close").disabled = corners.length < 3;
    find(".undo").disabled = find(".clear").disabled = !rings.some((ring) => ring.length);
  };
  const tell = () => {
    text.value = closed.length ? JSON.stringify({ polygons: closed }) : "";
    const sent = send(text.value), outlines = closed.length > 1 ? `${closed.length} outlines` : "1 outline";
    find("details").open = Boolean(closed.length) && !sent;
    const where = sent ? "Python has it: run the cells below." : "Copy the text into MASK, and run again.";
    const open = corners.length ? `${corners.length} corner${corners.length > 1 ? "s" : ""}; close it at the first one, or with Enter.` : "";
    find(".status").textContent = open || (closed.length ? `${outlines}. ${where}` : "Click around the object, corner by corner.");
    draw();
  };
  const close = () => { if (corners.length > 2) closed.push(corners.splice(0)); tell(); };
  const add = (point) => {
    const first = corners[0];
    const back = corners.length > 2 && Math.hypot(point[0] - first[0], point[1] - first[1]) < NEAR * scale();
    if (back) close(); else { corners.push(point); tell(); }
  };
  const undo = () => {
    if (!corners.length && closed.length) corners = closed.pop(); // an outline opens again
    else corners.pop();
    tell();
  };
  svg.onpointerdown = (event) => {
    const { ring, corner } = event.target.dataset, open = Number(ring) === closed.length;
    if (ring === undefined || (open && corner === "0" && corners.length > 2)) return;
    held = [[...closed, corners][ring], corner];
    svg.setPointerCapture(event.pointerId);
  };
  svg.onpointermove = (event) => { if (held) { held[0][held[1]] = place(event); draw(); } };
  svg.onpointerup = svg.onpointercancel = (event) => {
    if (held) { held = null; dropped = event.timeStamp; tell(); }
  };
  svg.onclick = (event) => { // unlike pointerup, none comes when a finger scrolls; the one after a drag is no new corner
    cross = null;
    stage.focus({ preventScroll: true });
    if (event.timeStamp - dropped > 300) add(place(event)); else draw();
  };
  stage.onkeydown = (event) => {
    const step = (event.shiftKey ? 0.002 : 0.01) * data.width;
    const moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
    const acts = { Enter: close, Backspace: undo, " ": () => cross && add(cross) };
    if (moves[event.key]) {
      const from = cross || [data.width / 2, data.height / 2];
      cross = from.map((v, i) => Math.round(10 * Math.min(Math.max(v + moves[event.key][i], 0), [data.width, data.height][i])) / 10);
      draw();
    } else if (acts[event.key]) acts[event.key]();
    else return;
    event.preventDefault();
  };
  find(".close").onclick = close;
  find(".undo").onclick = undo;
  find(".clear").onclick = () => { closed.length = corners.length = 0; tell(); };
  find(".copy").onclick = () => { text.select(); document.execCommand("copy"); }; // the clipboard API is closed to frames
  new ResizeObserver(draw).observe(stage);
  tell();
}
