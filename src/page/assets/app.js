new EventSource("/api/page/stream").addEventListener("shop", (event) => {
  document.getElementById("page").textContent = event.data;
});
