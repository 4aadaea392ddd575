// What an accessibility checker looks at, for this page: run inside of it, answers a list of sentences.
() => {
  const faults = [];
  const isShown = (element) => element.checkVisibility({ visibilityProperty: true, contentVisibilityAuto: false })
    && element.getBoundingClientRect().width > 0;
  const named = (element) => `<${element.tagName.toLowerCase()} id="${element.id}" class="${element.getAttribute("class") ?? ""}">`;
  const top = document.querySelector("dialog[open]") ?? document.body;
  const all = (selector) => [...top.querySelectorAll(selector)].filter(isShown);

  const nameOf = (element) => {
    const labelled = (element.getAttribute("aria-labelledby") ?? "").split(/\s+/).filter(Boolean)
      .map((id) => document.getElementById(id)?.textContent ?? "").join(" ");
    const labels = [...(element.labels ?? [])].map((label) => label.textContent).join(" ");
    return (labelled || element.getAttribute("aria-label") || labels || element.textContent || "").trim();
  };

  // Names and roles
  for (const element of all("button, a[href], input, textarea, select, [tabindex='0'], summary, dialog, nav, aside, section, form[aria-label]")) {
    if (element.matches("section:not([aria-label]):not([aria-labelledby])")) continue;
    if (!nameOf(element)) faults.push(`${named(element)} has no name`);
  }
  for (const field of all("input, textarea, select")) {
    const hasLabel = field.labels?.length > 0 || field.hasAttribute("aria-label") || field.hasAttribute("aria-labelledby");
    if (!hasLabel) faults.push(`${named(field)} has no label but its placeholder`);
  }
  for (const svg of all("svg")) {
    if (svg.getAttribute("aria-hidden") !== "true") faults.push(`${named(svg)} is read out`);
  }
  for (const attribute of ["aria-labelledby", "aria-describedby", "aria-controls"]) {
    for (const element of document.querySelectorAll(`[${attribute}]`)) {
      for (const id of element.getAttribute(attribute).split(/\s+/)) {
        if (!document.getElementById(id)) faults.push(`${named(element)} points at #${id}, which is not there`);
      }
    }
  }
  const ids = [...document.querySelectorAll("[id]")].map((element) => element.id);
  for (const id of ids.filter((id, index) => ids.indexOf(id) !== index)) faults.push(`#${id} is there twice`);

  // Landmarks and headings
  if (document.documentElement.lang !== "en") faults.push("the page has no language");
  if (!document.title) faults.push("the page has no title");
  if (top === document.body) {
    if (all("main").length > 1) faults.push("there is more than one main");
    if (all("h1").length > 1) faults.push("there is more than one h1");
    for (const landmark of ["nav", "aside"]) {
      if (all(landmark).some((element) => !nameOf(element))) faults.push(`a ${landmark} has no name`);
    }
  }

  // Targets: WCAG 2.2, 2.5.8 asks for 24 px
  for (const element of all("button, input, summary, a.row")) {
    const box = element.getBoundingClientRect();
    const target = element.closest("label")?.getBoundingClientRect() ?? box;
    if (element.matches(".text-button")) continue; // inside a sentence
    if (Math.max(box.height, target.height) < 24 || Math.max(box.width, target.width) < 24) {
      faults.push(`${named(element)} is only ${Math.round(box.width)}×${Math.round(box.height)} px`);
    }
  }

  // Contrast of every text in sight against what is behind it: WCAG 1.4.3
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    const [red, green, blue, alpha] = canvas.getImageData(0, 0, 1, 1).data;
    return [red, green, blue, alpha / 255];
  };
  const over = (front, back) => front.slice(0, 3).map((value, index) => value * front[3] + back[index] * (1 - front[3])).concat(1);
  const behind = (element) => {
    const layers = [];
    for (let at = element; at; at = at.parentElement) {
      const colour = rgba(getComputedStyle(at).backgroundColor);
      if (colour[3] > 0) layers.push(colour);
      if (colour[3] === 1) break;
    }
    return layers.reverse().reduce((below, layer) => over(layer, below), [255, 255, 255, 1]);
  };
  const luminance = ([red, green, blue]) => {
    const [r, g, b] = [red, green, blue].map((value) => {
      const part = value / 255;
      return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const contrast = (one, other) => {
    const [light, dark] = [luminance(one), luminance(other)].sort((a, b) => b - a);
    return (light + 0.05) / (dark + 0.05);
  };
  const walker = document.createTreeWalker(top, NodeFilter.SHOW_TEXT);
  const seen = new Set();
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || !element || seen.has(element)) continue;
    seen.add(element);
    if (!isShown(element) || element.closest(".visually-hidden, :disabled, noscript, script")) continue;
    const style = getComputedStyle(element);
    if (style.opacity === "0") continue;
    const size = parseFloat(style.fontSize);
    const isLarge = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    const back = behind(element);
    const ratio = contrast(over(rgba(style.color), back), back);
    if (ratio < (isLarge ? 3 : 4.5)) {
      faults.push(`${named(element)} “${element.textContent.trim().slice(0, 30)}” has a contrast of ${ratio.toFixed(2)}`);
    }
  }
  // Fields must be seen as fields: 1.4.11 asks for 3:1 at their border
  for (const field of all("input[type=text], input[type=password]")) {
    const ratio = contrast(rgba(getComputedStyle(field).borderTopColor), behind(field.parentElement));
    if (ratio < 3) faults.push(`${named(field)} has a border of ${ratio.toFixed(2)}`);
  }
  return faults;
}
