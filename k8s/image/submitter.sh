# What the submitter's bash reads first (BASH_ENV). KubeRay's script submits what the head does not know, and ends by `ray job logs --follow`.
# That ends with 0 also where the job has not ended: a head that is told to end closes the log in good order. KubeRay then takes the submitter
# for done, nobody submits the job to the head that follows, and 30 s later the RayJob fails. Here it ends with 0 once the job has ended alone.
ray() {
  if [ "${1:-} ${2:-}" != "job logs" ]; then
    command ray "$@"
    return
  fi
  local line over="" job="${*: -1}"
  while IFS= read -r line; do
    printf '%s\n' "$line"
    case $line in *"Job '$job' succeeded"* | *"Job '$job' failed"* | *"Job '$job' was stopped"*) over=yes ;; esac
  done < <(command ray "$@" 2>&1)
  [ -n "$over" ]
}
