// Buttons inside pieces of HTML: a click is told to Python with what the button is for.
element.addEventListener("click", (event) => {
  const button = event.target.closest("[data-pick], [data-question], [data-cut], [data-earlier]");
  if (button && element.contains(button)) trigger("picked", { number: Number(Object.values(button.dataset)[0]) });
});
