//! As the API server evaluates a `ValidatingAdmissionPolicy`: conditions, variables in their
//! order, then every validation; what cannot be evaluated refuses (`failurePolicy: Fail`).
//!
//! One reading of what is rendered, for the tests of the expressions and for what `warden doctor`
//! says of pods that are there.

use std::collections::HashMap;
use std::sync::Arc;

use cel::extractors::This;
use cel::{Context, Env, Program, extensions};
use serde_json::Value;

use crate::error::RenderError;
use crate::rendered::Rendered;

/// What the rendered admission policies would say to somebody who makes this object, where their
/// bindings hold for it. Nothing is asked of an API server.
///
/// # Errors
/// If a rendered expression is none.
pub fn refusals(
    rendered: &Rendered,
    object: &Value,
    user: &str,
) -> Result<Vec<String>, RenderError> {
    let text = |value: &Value, pointer: &str| {
        let found = value.pointer(pointer).and_then(Value::as_str);
        found.unwrap_or_default().to_owned()
    };
    let request = serde_json::json!({"userInfo": {"username": user}});
    let mut all = Vec::new();
    for binding in rendered.objects().iter().map(crate::Object::manifest) {
        if text(binding, "/kind") != "ValidatingAdmissionPolicyBinding" {
            continue;
        }
        let namespace = text(object, "/metadata/namespace");
        let selector = binding.pointer("/spec/matchResources/namespaceSelector/matchExpressions/0");
        let holds = selector.is_none_or(|selector| {
            let values = selector.get("values").and_then(Value::as_array);
            let listed = values.is_some_and(|values| values.contains(&Value::from(&*namespace)));
            listed == (text(selector, "/operator") == "In")
        });
        let policies = rendered.objects().iter().map(crate::Object::manifest);
        let mut policies = policies.filter(|policy| {
            text(policy, "/kind") == "ValidatingAdmissionPolicy"
                && text(policy, "/metadata/name") == text(binding, "/spec/policyName")
                && concerns(policy, object)
        });
        if let Some(policy) = policies.next().filter(|_| holds) {
            let refused = Admission::new(policy)?.judge(object, &Value::Null, &request);
            all.extend(refused.into_iter().map(|(_, message)| message));
        }
    }
    Ok(all)
}

/// Whether a policy has a rule for objects of this kind.
fn concerns(policy: &Value, object: &Value) -> bool {
    let text = |field: &str| {
        object
            .get(field)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    let (group, _) = text("apiVersion").split_once('/').unwrap_or(("", ""));
    let kind = text("kind").to_lowercase();
    // As Kubernetes forms them; `endpoints` has its plural already.
    let resource = match (kind.strip_suffix('y'), kind.ends_with('s')) {
        (Some(stem), _) if !stem.ends_with(['a', 'e', 'o', 'u']) => format!("{stem}ies"),
        (_, true) if kind == "endpoints" => kind,
        (_, true) => format!("{kind}es"),
        _ => format!("{kind}s"),
    };
    let rules = policy.pointer("/spec/matchConstraints/resourceRules");
    let mut rules = rules.and_then(Value::as_array).into_iter().flatten();
    rules.any(|rule| {
        let has = |list: &str, word: &str| {
            let list = rule.get(list).and_then(Value::as_array);
            list.is_some_and(|list| list.contains(&Value::from(word)))
        };
        has("apiGroups", group) && has("resources", &resource)
    })
}

/// A policy, ready to be asked.
pub(crate) struct Admission {
    env: Arc<Env>,
    conditions: Vec<(Program, String)>,
    variables: Vec<(String, Program)>,
    validations: Vec<(Program, String)>,
}

impl Admission {
    /// Reads a policy.
    ///
    /// # Errors
    /// If one of its expressions is none.
    pub(crate) fn new(policy: &Value) -> Result<Self, RenderError> {
        let failure = |error: String| {
            let name = policy.pointer("/metadata/name").and_then(Value::as_str);
            RenderError::new(name.unwrap_or("admission"), error)
        };
        if policy.pointer("/spec/failurePolicy") != Some(&Value::from("Fail")) {
            return Err(failure("its failurePolicy is not Fail".to_owned()));
        }
        let mut env = Env::stdlib();
        // Kubernetes has the same functions on strings.
        env.add_extension(extensions::strings)
            .map_err(|error| failure(error.to_string()))?;
        let programs = |list: &str, named: &str| {
            let entries = policy.pointer(&format!("/spec/{list}"));
            let entries = entries.and_then(Value::as_array).into_iter().flatten();
            let text = |entry: &Value, field: &str| {
                let text = entry.get(field).and_then(Value::as_str);
                text.unwrap_or_default().to_owned()
            };
            entries
                .map(|entry| {
                    let program = env.compile(&text(entry, "expression"));
                    let program = program.map_err(|error| failure(error.to_string()))?;
                    Ok((program, text(entry, named)))
                })
                .collect::<Result<Vec<_>, RenderError>>()
        };
        let conditions = programs("matchConditions", "name")?;
        let variables = programs("variables", "name")?.into_iter();
        let variables = variables.map(|(program, name)| (name, program)).collect();
        let validations = programs("validations", "message")?;
        Ok(Self {
            env: Arc::new(env),
            conditions,
            variables,
            validations,
        })
    }

    /// How many validations there are.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.validations.len()
    }

    /// The validations that refuse, each with its place and message. A condition that cannot be
    /// evaluated refuses too, unless another one says that the object does not matter.
    pub(crate) fn judge(
        &self,
        object: &Value,
        before: &Value,
        request: &Value,
    ) -> Vec<(usize, String)> {
        let mut context = Context::with_env(Arc::clone(&self.env));
        for (name, json) in [
            ("object", object),
            ("oldObject", before),
            ("request", request),
        ] {
            context.add_variable_from_value(name, value(json));
        }
        if authorizer(&mut context, request).is_err() {
            return vec![(usize::MAX, "cannot be evaluated: authorizer".to_owned())];
        }
        let conditions = self.conditions.iter();
        let conditions: Vec<_> = conditions
            .map(|(program, name)| (truth(program, &context), name))
            .collect();
        if conditions.iter().any(|(truth, _)| *truth == Some(false)) {
            return Vec::new();
        }
        if let Some((_, name)) = conditions.iter().find(|(truth, _)| truth.is_none()) {
            return vec![(usize::MAX, format!("cannot be evaluated: {name}"))];
        }
        // A variable that cannot be evaluated is missing for the expressions that name it.
        let mut known = HashMap::new();
        for (name, program) in &self.variables {
            context.add_variable_from_value("variables", known.clone());
            if let Ok(found) = program.execute(&context) {
                known.insert(name.clone(), found);
            }
        }
        context.add_variable_from_value("variables", known);
        let judged = self.validations.iter().enumerate();
        judged
            .filter_map(
                |(index, (program, message))| match truth(program, &context) {
                    Some(true) => None,
                    Some(false) => Some((index, message.clone())),
                    None => Some((index, format!("cannot be evaluated: {message}"))),
                },
            )
            .collect()
    }
}

/// Kubernetes' `authorizer`, as far as the policies ask it: what the requester may do beside the
/// request is listed in the request's `may`, as `GROUP/RESOURCE/VERB`.
fn authorizer(context: &mut Context<'_, '_>, request: &Value) -> Result<(), cel::DeclarationError> {
    let may = request.get("may").and_then(Value::as_array);
    let may: Vec<String> = may
        .into_iter()
        .flatten()
        .filter_map(|right| right.as_str().map(str::to_owned))
        .collect();
    context.add_variable_from_value("authorizer", "");
    let further = |This(at): This<Arc<String>>, name: Arc<String>| match at.as_str() {
        "" => name.to_string(),
        at => format!("{at}/{name}"),
    };
    context.add_function("group", further)?;
    context.add_function("resource", further)?;
    context.add_function("check", further)?;
    context.add_function("allowed", move |This(at): This<Arc<String>>| {
        may.contains(&at)
    })
}

fn truth(program: &Program, context: &Context<'_, '_>) -> Option<bool> {
    match program.execute(context) {
        Ok(cel::Value::Bool(truth)) => Some(truth),
        _ => None,
    }
}

/// JSON's whole numbers are CEL's `int`, as they are for the API server.
fn value(json: &Value) -> cel::Value {
    match json {
        Value::Null => cel::Value::Null,
        Value::Bool(truth) => (*truth).into(),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => whole.into(),
            (None, Some(other)) => other.into(),
            (None, None) => cel::Value::Null,
        },
        Value::String(text) => text.as_str().into(),
        Value::Array(items) => items.iter().map(value).collect::<Vec<_>>().into(),
        Value::Object(fields) => fields
            .iter()
            .map(|(key, field)| (key.clone(), value(field)))
            .collect::<HashMap<_, _>>()
            .into(),
    }
}
