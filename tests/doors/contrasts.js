// Of each text that is shown: the contrast with what is behind it, as WCAG 2 defines it, and which
// text that is.

(() => {
  const parts = (color) => color.match(/[\d.]+/g).map(Number);
  const linear = (part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
  const luminance = (color) => {
    const [red, green, blue] = parts(color).map((part) => linear(part / 255));
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const style = getComputedStyle(at);
      const bar = style.backgroundImage.match(/rgba?\([^)]*\)/); // of one color, as a gradient
      if (bar) return bar[0];
      if ((parts(style.backgroundColor)[3] ?? 1) === 1) return style.backgroundColor;
    }
    throw new Error("the page has no background");
  };
  const hasText = (element) => element.matches("textarea")
    || [...element.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.data.trim());
  const isShown = (element) => element.checkVisibility() && !element.matches("title, option");
  return [...document.querySelectorAll("body *")]
    .filter((element) => isShown(element) && hasText(element))
    .map((element) => {
      const style = getComputedStyle(element);
      const ink = luminance(element instanceof SVGElement ? style.fill : style.color);
      const back = luminance(behind(element));
      const contrast = (Math.max(ink, back) + 0.05) / (Math.min(ink, back) + 0.05);
      return [contrast, element.outerHTML.slice(0, 80)];
    });
})()
