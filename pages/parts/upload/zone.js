// The drop zone: chooses files and folders and draws what `transfer.js` does with them.

const bytes = (count) => {
  const units = ["bytes", "kB", "MB", "GB", "TB"];
  let at = 0;
  while (count >= 999.5 && at < 4) { count /= 1000; at++; }
  return `${at ? count.toPrecision(3) : count} ${units[at]}`;
};
const seconds = (left) => (left < 60 ? `${Math.ceil(left)} s` : `${Math.ceil(left / 60)} min`);

function made(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element[name] = value; else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

function words(job) {
  if (job.state === "failed") return job.problem.what;
  if (job.retry) return `Connection lost at ${bytes(job.sent)}. Trying again every ${job.retry} s.`;
  if (job.state === "waiting") return "Waiting";
  if (job.state === "reading") return `Reading the folder, ${Math.round(100 * (job.share ?? 0))} %`;
  if (job.state === "finishing") return "Handing over";
  const rate = job.rate ? ` · ${bytes(job.rate)}/s · ${seconds((job.size - job.sent) / job.rate)} left` : "";
  return `${bytes(job.sent)} of ${bytes(job.size)}${rate}`;
}

function share(job) {
  return job.state === "reading" ? job.share ?? 0 : job.size ? job.sent / job.size : 0;
}

function rowOf(transfers, job) {
  const percent = Math.round(100 * share(job));
  const row = made("li", { class: `job ${job.state}` },
    made("span", { class: "name" }, job.name),
    made("button", { type: "button", class: "plain", "aria-label": `${job.state === "failed" ? "Dismiss" : "Cancel"} ${job.name}`, onclick: () => transfers.cancel(job) },
      job.state === "failed" ? "Dismiss" : "Cancel"),
    made("div", { class: "track", role: "progressbar", "aria-label": job.name, "aria-valuemin": 0, "aria-valuemax": 100, "aria-valuenow": percent }, made("div", { class: "bar" })),
    made("span", { class: "state", role: job.state === "failed" ? "alert" : "status" }, words(job)));
  row.querySelector(".bar").style.width = `${percent}%`;
  if (job.problem?.mend) row.append(made("span", { class: "state" }, job.problem.mend));
  return row;
}

function halfDoneRow(transfers, entry) {
  return made("li", { class: "job half" },
    made("span", { class: "name" }, entry.name),
    made("button", { type: "button", class: "plain", "aria-label": `Discard ${entry.name}`, onclick: () => transfers.forget(entry.key) }, "Discard"),
    made("span", { class: "state" }, `Stopped at ${bytes(entry.sent)} of ${bytes(entry.size)}. Choose the same file again to go on from there.`));
}

function takeFile(transfers, file) {
  transfers.add(file.name, `${file.name}|${file.size}|${file.lastModified}`, file);
}

function takeFolder(transfers, name, files) {
  const size = files.reduce((sum, { file }) => sum + file.size, 0);
  const newest = files.reduce((latest, { file }) => Math.max(latest, file.lastModified), 0);
  transfers.add(`${name}.zip`, `${name}/|${size}|${files.length}|${newest}`, (onShare) => folderAsZip(files, onShare));
}

async function takeDrop(transfers, items) {
  // entries must be asked for before the first await, or the browser has dropped them
  for (const entry of [...items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean)) {
    if (entry.isDirectory) takeFolder(transfers, entry.name, await filesOfEntry(entry));
    else takeFile(transfers, await new Promise((done, fail) => entry.file(done, fail)));
  }
}

function build(root, transfers, data) {
  const zone = root.querySelector(".zone"), file = root.querySelector("input.file"), folder = root.querySelector("input.folder");
  root.querySelector(".label").textContent = data.label;
  root.querySelector(".hint").textContent = data.hint;
  file.accept = data.accept;
  file.setAttribute("aria-label", data.label);
  root.querySelector(".choose-file").onclick = () => file.click();
  root.querySelector(".choose-folder").onclick = () => folder.click();
  root.querySelector(".choose-file").classList.toggle("primary", data.primary);
  root.querySelector(".choose-folder").hidden = !data.folders;
  file.onchange = () => { for (const each of file.files) takeFile(transfers, each); file.value = ""; };
  folder.onchange = () => {
    const files = filesOfInput(folder.files);
    if (files.length) takeFolder(transfers, files[0].path.split("/")[0], files);
    folder.value = "";
  };
  zone.ondragover = (event) => { event.preventDefault(); zone.classList.add("over"); };
  zone.ondragleave = () => zone.classList.remove("over");
  zone.ondrop = (event) => {
    event.preventDefault();
    zone.classList.remove("over");
    takeDrop(transfers, event.dataTransfer.items);
  };
}

export default function ({ data, parentElement: root, setTriggerValue }) {
  const transfers = transfersFor(data.purpose);
  if (data.ticket !== transfers.given) transfers.ticket = transfers.given = data.ticket;
  transfers.sliceBytes = data.slice_bytes;
  build(root, transfers, data);
  const list = root.querySelector("ul");
  let drawing = 0;
  transfers.onChange = () => {
    drawing ||= requestAnimationFrame(() => {
      drawing = 0;
      list.replaceChildren(...transfers.halfDone().map((entry) => halfDoneRow(transfers, entry)), ...transfers.jobs.map((job) => rowOf(transfers, job)));
    });
  };
  transfers.onFinished = (answer) => setTriggerValue("finished", answer);
  transfers.onChange();
}
