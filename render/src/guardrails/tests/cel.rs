//! As the API server evaluates a `ValidatingAdmissionPolicy`: conditions, variables in their
//! order, then every validation; what cannot be evaluated refuses (`failurePolicy: Fail`).

use std::collections::HashMap;
use std::sync::Arc;

use cel::{Context, Env, Program, extensions};
use serde_json::Value;

pub(super) struct Admission {
    env: Arc<Env>,
    conditions: Vec<(Program, String)>,
    variables: Vec<(String, Program)>,
    validations: Vec<(Program, String)>,
}

impl Admission {
    pub(super) fn new(policy: &Value) -> Self {
        let spec = &policy["spec"];
        assert_eq!(spec["failurePolicy"], "Fail");
        let mut env = Env::stdlib();
        // Kubernetes has the same functions on strings.
        env.add_extension(extensions::strings).unwrap();
        let text = |entry: &Value, field: &str| entry[field].as_str().unwrap().to_owned();
        let program = |entry: &Value| env.compile(&text(entry, "expression")).unwrap();
        let list = |field: &str| spec[field].as_array().cloned().unwrap_or_default();
        let conditions = list("matchConditions")
            .iter()
            .map(|entry| (program(entry), text(entry, "name")))
            .collect();
        let variables = list("variables")
            .iter()
            .map(|entry| (text(entry, "name"), program(entry)))
            .collect();
        let validations = list("validations")
            .iter()
            .map(|entry| (program(entry), text(entry, "message")))
            .collect();
        Self {
            env: Arc::new(env),
            conditions,
            variables,
            validations,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.validations.len()
    }

    /// The validations that refuse, each with its place and message. A condition that cannot be
    /// evaluated refuses too, unless another one says that the object does not matter.
    pub(super) fn judge(
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
        let truth = |program: &Program, context: &Context<'_, '_>| match program.execute(context) {
            Ok(cel::Value::Bool(truth)) => Some(truth),
            _ => None,
        };
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

/// JSON's whole numbers are CEL's `int`, as they are for the API server.
fn value(json: &Value) -> cel::Value {
    match json {
        Value::Null => cel::Value::Null,
        Value::Bool(truth) => (*truth).into(),
        Value::Number(number) => number.as_i64().unwrap().into(),
        Value::String(text) => text.as_str().into(),
        Value::Array(items) => items.iter().map(value).collect::<Vec<_>>().into(),
        Value::Object(fields) => fields
            .iter()
            .map(|(key, field)| (key.clone(), value(field)))
            .collect::<HashMap<_, _>>()
            .into(),
    }
}
