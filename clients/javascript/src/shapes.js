// Frames as the page sees them: camelCase, nothing absent.

export function messageFrom(frame, session = frame.session) {
  return {
    session,
    seq: frame.seq,
    id: frame.id,
    clientId: frame.client_id ?? null,
    sender: frame.sender,
    role: frame.role ?? "user",
    content: frame.content,
    metadata: frame.metadata ?? {},
    createdAt: frame.created_at,
  };
}

export function signalFrom(frame) {
  return {
    name: frame.name,
    data: frame.data ?? null,
    sender: frame.sender ?? null,
    connection: frame.connection ?? null,
  };
}

export function welcomeFrom(frame) {
  return {
    connection: frame.connection,
    user: frame.user,
    tenant: frame.tenant,
    node: frame.node,
    resumed: frame.resumed === true,
    limits: Object.freeze({ ...frame.limits }),
  };
}

export function changeFrom(frame) {
  return { event: frame.event, version: frame.version ?? null, changes: frame.changes ?? {} };
}
