// Once everything is there: a row for the page and each resource, and a title that says so.
addEventListener("load", () => {
  const kinds = ["navigation", "resource"];
  for (const entry of kinds.flatMap(kind => performance.getEntriesByType(kind))) {
    const row = document.getElementById("resources").insertRow();
    const path = new URL(entry.name).pathname;
    for (const text of [path, entry.nextHopProtocol, entry.encodedBodySize]) {
      row.insertCell().textContent = text;
    }
  }
  document.title = "loaded";
});
