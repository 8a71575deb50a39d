/** Placeholder until the map can be saved. */
export class ExportDialog {
  constructor(dialog, explorer, map) {
    Object.assign(this, { dialog, explorer, map });
  }

  show() {
    this.dialog.showModal();
  }
}
