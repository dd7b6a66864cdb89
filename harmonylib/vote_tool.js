// Two pictures, which looks better? root: an empty element; data: {ballots: [{picture, methods: [a, b]}], shown: {picture:
// {method: address}}, sitting}; send(text) -> whether Python has it. The text is a CSV, one row a vote.
(root, data, send) => {
  const HEADER = "winner,loser,picture,tie,sitting", ADVICE = "Arrow keys: left, right; down for no difference.";
  root.innerHTML = `
    <div class="choice" tabindex="0" role="group" aria-label="Which one looks real? ${ADVICE}">
      <button class="a"><img alt="picture A"><span>A</span></button><button class="b"><img alt="picture B"><span>B</span></button></div>
    <div class="bar"><button class="tie">No difference</button><button class="undo">Undo</button>
      <progress max="${data.ballots.length}" value="0"></progress><span class="status" role="status"></span>
      <a class="save" download="votes.csv">votes.csv</a></div>`;
  const find = (name) => root.querySelector(name);
  for (const own of root.querySelectorAll("[tabindex], button, summary, textarea, a"))
    own.dataset.lmSuppressShortcuts = "true"; // while it has the focus, JupyterLab leaves the keys to it
  const rows = [];
  const quoted = (word) => `"${String(word).replaceAll('"', '""')}"`;
  const show = () => {
    const ballot = data.ballots[rows.length], csv = [HEADER, ...rows].join("\n") + "\n";
    const sent = send(rows.length ? csv : "");
    for (const [i, side] of ["a", "b"].entries())
      if (ballot) find(`.${side} img`).src = data.shown[ballot.picture][ballot.methods[i]];
    root.classList.toggle("done", !ballot);
    for (const name of [".a", ".b", ".tie"]) find(name).disabled = !ballot;
    find(".undo").disabled = !rows.length;
    find("progress").value = rows.length;
    find(".save").href = "data:text/csv;charset=utf-8," + encodeURIComponent(csv);
    find(".status").textContent = `${rows.length} of ${data.ballots.length}. `
      + (ballot ? "Which one looks real?" : "Thank you.") + (rows.length ? (sent ? " Run the cell below for the scores." : " Save:") : "");
    find(".save").hidden = !rows.length;
  };
  const vote = (winner, tie) => {
    const ballot = data.ballots[rows.length];
    if (!ballot) return;
    const words = [ballot.methods[winner], ballot.methods[1 - winner], ballot.picture, tie ? "yes" : "", data.sitting];
    rows.push(words.map(quoted).join());
    show();
  };
  const undo = () => { rows.pop(); show(); };
  const acts = { ArrowLeft: () => vote(0), ArrowRight: () => vote(1), ArrowDown: () => vote(0, true), Backspace: undo };
  find(".a").onclick = acts.ArrowLeft;
  find(".b").onclick = acts.ArrowRight;
  find(".tie").onclick = acts.ArrowDown;
  find(".undo").onclick = undo;
  find(".choice").onkeydown = (event) => {
    if (!acts[event.key]) return;
    event.preventDefault();
    acts[event.key]();
  };
  show();
}
