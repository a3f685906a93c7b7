"""The auditor's room: it reads bytes, and shares no code with what wrote them."""
