-- Health of a DistillationJob: Succeeded is the one truth; Stalled without it is a spec that cannot be used; Suspended is shown as such;
-- all else is progress.
local health = {status = "Progressing", message = "waiting for the operator"}
if obj.status == nil or obj.status.conditions == nil then
  return health
end
if obj.status.observedGeneration ~= nil and obj.status.observedGeneration ~= obj.metadata.generation then
  return health
end
if obj.status.phase ~= nil then
  health.message = obj.status.phase
end
for _, condition in ipairs(obj.status.conditions) do
  if condition.type == "Succeeded" and condition.status == "True" then
    return {status = "Healthy", message = condition.message}
  end
  if condition.type == "Succeeded" and condition.status == "False" then
    return {status = "Degraded", message = condition.message}
  end
  if condition.type == "Stalled" and condition.status == "True" then
    health = {status = "Degraded", message = condition.message}
  end
  if condition.type == "Suspended" and condition.status == "True" and health.status ~= "Degraded" then
    health = {status = "Suspended", message = condition.message}
  end
end
return health
